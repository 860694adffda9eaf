"""The size of an image is that of the decoder, mostly without decoding."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image as pillow
from PIL.PngImagePlugin import PngInfo

from models.datasets.image_size import displayed_size
from models.images.decoder import ImageError, Limits, decode
from tests.support.data.datasets import save

ORIENTATION = 0x0112


def turned(orientation: int) -> pillow.Exif:
    exif = pillow.Exif()
    exif[ORIENTATION] = orientation
    return exif


TURNED = turned(6)
TEXT = PngInfo()
TEXT.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
EXIF_HEAD = b"Exif\0\0II*\0\x08\0\0\0"
LONG_TAG = b"\1\0\x12\x01\4\0\1\0\0\0\6\0\0\0\0\0\0\0"
SAVED: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("a.jpg", {}),
    "progressive jpeg": ("a.jpg", {"progressive": True}),
    "jpeg with a comment": ("a.jpg", {"comment": b"\xff\xc0" * 100}),
    "jpeg turned by XMP": ("a.jpg", {"xmp": b'<x tiff:Orientation="6"/>'}),
    "jpeg with broken EXIF": ("a.jpg", {"exif": b"Exif\0\0II*\0\xff\xff\xff\xff"}),
    "jpeg with EXIF cut short": ("a.jpg", {"exif": TURNED.tobytes()[:14]}),
    "jpeg turned by EXIF in 32 bits": ("a.jpg", {"exif": EXIF_HEAD + LONG_TAG}),
    "jpeg with EXIF of another header": ("a.jpg", {"exif": EXIF_HEAD.replace(b"*", b"+") + LONG_TAG}),
    "jpeg with two orientations in one": (
        "a.jpg",
        {"exif": EXIF_HEAD + LONG_TAG.replace(b"\1\0\0\0", b"\2\0\0\0")},
    ),
    "png": ("a.png", {}),
    "png turned by EXIF": ("a.png", {"exif": TURNED}),
    "png turned by XMP": ("a.png", {"pnginfo": TEXT}),
    "webp turned": ("a.webp", {"exif": TURNED}),
    "bmp": ("a.bmp", {}),
    "gif": ("a.gif", {}),
    "tiff": ("a.tiff", {}),
    "jpeg of another name": ("a.png", {"format": "JPEG"}),
    **{f"jpeg of orientation {number}": ("a.jpg", {"exif": turned(number)}) for number in range(1, 9)},
}


@pytest.mark.parametrize(("name", "options"), SAVED.values(), ids=SAVED)
def test_sizes_are_those_of_the_decoder(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = save(tmp_path / name, (37, 21), **options)
    image = decode(path.read_bytes(), Limits(10_000))
    assert displayed_size(path) == (image.width, image.height)


def test_a_second_exif_is_left_to_the_decoder(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", (37, 21), exif=TURNED)
    content = path.read_bytes()
    start = content.index(b"\xff\xe1")
    length = int.from_bytes(content[start + 2 : start + 4], "big") + 2
    path.write_bytes(content[:start] + 2 * content[start : start + length] + content[start + length :])
    image = decode(path.read_bytes(), Limits(10_000))
    assert displayed_size(path) == (image.width, image.height)


def test_the_size_of_a_plain_image_costs_no_decoding(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        path = save(tmp_path / name, (300, 200))
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(ImageError):
            decode(path.read_bytes(), Limits(100_000))
        assert displayed_size(path) == (300, 200)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xda\0\0"]
)
def test_what_has_no_size_is_no_image(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError):
        displayed_size(path)
