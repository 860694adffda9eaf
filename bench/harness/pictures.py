"""Drawn scenes as JPEG files of any size: what the benchmarks send."""

import io
from pathlib import Path

from PIL import Image as PillowImage

from models.shapes.scenes import draw_scene

SEED = 9
PLAIN = (640, 480)


def jpeg(size: tuple[int, int] = PLAIN, index: int = 0) -> bytes:
    """A drawn scene stretched to width and height, quality 90."""
    file = io.BytesIO()
    PillowImage.fromarray(draw_scene(SEED, index).pixels).resize(size).save(file, "JPEG", quality=90)
    return file.getvalue()


def write(path: Path, size: tuple[int, int] = PLAIN, index: int = 0) -> Path:
    """The same, in a file."""
    path.write_bytes(jpeg(size, index))
    return path
