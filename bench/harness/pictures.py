"""Drawn scenes as JPEG files of any size: the images that the benchmarks send."""

import io
from pathlib import Path

from PIL import Image as PillowImage

from models.shapes.scenes import draw_scene

SEED = 9
DEFAULT_SIZE = (640, 480)  # width, height
QUALITY = 90
SHAPES = {
    "landscape": (640, 480),
    "portrait": (480, 640),
    "square": (500, 500),
    "small": (200, 150),
    "12 MP": (4000, 3000),
}  # width, height


def jpeg(size: tuple[int, int] = DEFAULT_SIZE, index: int = 0) -> bytes:
    """A drawn scene, stretched to width and height, as a JPEG of quality 90."""
    file = io.BytesIO()
    PillowImage.fromarray(draw_scene(SEED, index).pixels).resize(size).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def write(path: Path, size: tuple[int, int] = DEFAULT_SIZE, index: int = 0) -> Path:
    """The same, in a file."""
    path.write_bytes(jpeg(size, index))
    return path
