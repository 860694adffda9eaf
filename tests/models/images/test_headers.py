"""Sizes beyond the limits are refused from the header, before any memory is taken."""

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as pillow

from models.images.decoder import ImageError, Limits, OversizedImage, UnreadableImage, decode
from tests.support.data.image_files import (
    KINDS,
    LIMITS,
    RED,
    avif,
    avif_of,
    corners,
    encoded,
    gif_of,
    grey_tiff,
    jpeg_of,
    noise,
    pixel,
    png,
    tiled_tiff,
    webp_of,
)
from tests.support.served import ROOT


def test_the_pixel_limit_is_exact() -> None:
    data = encoded(pillow.new("RGB", (40, 25)), "PNG")
    assert decode(data, Limits(1000)).width == 40
    with pytest.raises(OversizedImage, match=r"40 x 25 = 1000 pixels; at most 999 are allowed"):
        decode(data, Limits(999))


def test_the_pixel_limit_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Limits(0)


@pytest.mark.parametrize("size", [(1, 1), (1, 65_535), (65_535, 1), (3, 200)])
def test_any_shape_is_an_image(size: tuple[int, int]) -> None:
    image = decode(encoded(pillow.new("RGB", size, RED), "PNG"), LIMITS)
    assert (image.width, image.height) == size
    assert pixel(image, size[0] - 1, size[1] - 1) == RED


def test_a_side_has_a_bound() -> None:
    with pytest.raises(OversizedImage, match="65536 x 1 pixels; a side may have at most 65535"):
        decode(encoded(pillow.new("RGB", (65_536, 1)), "PNG"), LIMITS)


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (0, 0)])
def test_a_side_of_zero_is_invalid(size: tuple[int, int]) -> None:
    with pytest.raises(UnreadableImage):
        decode(png(*size, 8, 2, bytes(310)), LIMITS)


BOMBS: dict[str, Callable[[], bytes]] = {
    "png": lambda: png(30_000, 30_000, 1, 0, bytes(30_000 * 3751)),
    "png of one row": lambda: png(2**31 - 1, 1, 8, 0, bytes(1000)),
    "jpeg": lambda: jpeg_of(65_000, 65_000),
    "gif screen": lambda: gif_of((65_000, 65_000), (64, 32)),
    "gif frame": lambda: gif_of((64, 32), (65_000, 65_000)),
    "gif frame below the bomb check of Pillow": lambda: gif_of((64, 32), (9_000, 9_000)),
    "bmp": lambda: b"BM" + struct.pack("<IHHIIiiHH6I", 99, 0, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
    "bmp upside down": lambda: (
        b"BM" + struct.pack("<IHHIIiiHH6I", 99, 0, 0, 54, 40, 60_000, -60_000, 1, 1, *[0] * 6)
    ),
    "tiff": lambda: grey_tiff(60_000, 60_000, 8, bytes(100)),
    "tiff tile": lambda: tiled_tiff(8192, 8192),
    "tiff tile beyond any": lambda: tiled_tiff(65_536, 65_536),
    "webp lossless": lambda: webp_of(b"VP8L", 16_384, 16_384),
    "webp canvas": lambda: webp_of(b"VP8X", 13_000, 13_000),
    "webp canvas beyond any": lambda: webp_of(b"VP8X", 2**24, 2**24),
    "avif": lambda: avif_of((16_384, 16_384)),
    "avif with a frame larger than it claims": lambda: avif_of((64, 32), (4096, 4096)),
}


def check_text(error: ImageError) -> None:
    """The text may be shown to anybody: it names nothing of the decoder, and no path."""
    text = str(error).replace("POST /detect/stream", "").replace("application/json", "")
    internals = ("PIL", "0x", "/", "<", "Error", "Exception", "bytes-like", "\n")
    assert not [internal for internal in internals if internal in text]
    assert 20 < len(text) < 300


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_for_its_size(name: str) -> None:
    with pytest.raises(OversizedImage, match=r"scale it down") as refusal:
        decode(BOMBS[name](), LIMITS)
    check_text(refusal.value)


MEASURE = """
import resource, sys
from pathlib import Path
from models.images.decoder import OversizedImage, Limits, decode
files = sorted(Path(sys.argv[1]).iterdir())
for file in files[::-1] * 2:  # the first round warms up what is loaded on demand
    before, data = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file.read_bytes()
    try:
        decode(data, Limits(1_000_000))
    except OversizedImage:
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(grown // (2**20 if sys.platform == "darwin" else 2**10), file.name)
"""


def test_a_bomb_is_refused_without_its_memory(tmp_path: Path) -> None:
    for number, name in enumerate(BOMBS):
        (tmp_path / f"{number:02d} {name}").write_bytes(BOMBS[name]())
    command = [sys.executable, "-W", "error", "-c", MEASURE, tmp_path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    grown = [line.split(" ", 1) for line in result.stdout.splitlines()]
    assert len(grown) == 2 * len(BOMBS)
    assert [line for line in grown if int(line[0]) > 12] == []  # MiB; the largest would take 4 GiB
    assert result.stderr == ""


def test_running_out_of_memory_is_an_oversized_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 10)  # Pillow's limit, which an application may lower
    with pytest.raises(OversizedImage, match="more memory than it may have"):
        decode(encoded(corners(), "TIFF"), LIMITS)


@pytest.mark.parametrize("bound", [None, 1000, 10])
@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "avif"])
def test_pillows_global_pixel_limit_is_neither_used_nor_changed(
    kind: str, bound: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", bound)
    format, options = KINDS[kind]
    assert decode(encoded(noise((600, 504)), format, **options), LIMITS).width == 600
    assert bound == pillow.MAX_IMAGE_PIXELS


def sequence_header(width: int, height: int, *fields: tuple[int, int]) -> bytes:
    """An AV1 unit with a sequence header: fields as (value, bits) in front of the frame size."""
    bits = "".join(f"{value:0{count}b}" for value, count in fields)
    bits += f"{15:04b}{15:04b}{width - 1:016b}{height - 1:016b}"
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return bytes((0x12, 0x00, 0x0A, len(body))) + body  # a temporal delimiter in front


ONE_POINT = ((0, 5), (0, 12), (8, 5), (0, 1))  # the first bit says: no display delay
PLAIN = ((0, 3), (0, 1), (0, 1))
TIMED = (*PLAIN, (1, 1), (1, 32), (30, 32))
SEQUENCES = {
    "reduced": ((0, 3), (1, 1), (1, 1), (8, 5)),
    "plain": (*PLAIN, (0, 1), (0, 1), *ONE_POINT),
    "level without a tier": (*PLAIN, (0, 1), (0, 1), (0, 5), (0, 12), (7, 5)),
    "timing": (*TIMED, (0, 1), (0, 1), (0, 1), *ONE_POINT),
    "equal timing": (*TIMED, (1, 1), (1, 3), (2, 2), (0, 1), (0, 1), *ONE_POINT),
    "decoder model": (
        *(*TIMED, (0, 1), (1, 1), (9, 5), (1, 32), (3, 5), (3, 5)),
        *((1, 1), (1, 5)),  # a display delay, two operating points
        *((0, 12), (8, 5), (1, 1), (1, 1), (5, 10), (6, 10), (0, 1), (1, 1), (3, 4)),
        *((0, 12), (2, 5), (0, 1), (0, 1)),
    ),
}


@pytest.mark.parametrize("fields", SEQUENCES.values(), ids=SEQUENCES)
def test_the_frame_size_of_av1_is_read_in_every_shape_of_header(fields: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(OversizedImage, match="image has 5000 x 3001 ="):
        decode(avif(sequence_header(5000, 3001, *fields)), LIMITS)
