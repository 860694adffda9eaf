"""Every EXIF orientation is applied, and broken EXIF does not fail the image."""

import struct

import numpy as np
import pytest
from PIL import Image as pillow
from PIL import TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from models.images.decoder import Image, decode
from tests.support.data.image_files import (
    GREEN,
    KINDS,
    LIMITS,
    RED,
    chunk,
    corners,
    encoded,
    exif,
    grey_tiff,
    near,
    noise,
    pixel,
    segment,
    with_jpeg_segments,
    with_png_chunks,
)

# Where EXIF says that the stored image's upper left and upper right corners are shown.
SHOWN = {
    1: ("left top", "right top"),
    2: ("right top", "left top"),
    3: ("right bottom", "left bottom"),
    4: ("left bottom", "right bottom"),
    5: ("left top", "left bottom"),
    6: ("right top", "right bottom"),
    7: ("right bottom", "right top"),
    8: ("left bottom", "left top"),
}


def at(image: Image, corner: str) -> tuple[int, ...]:
    across, down = corner.split()
    x = 5 if across == "left" else image.width - 6
    return pixel(image, x, 5 if down == "top" else image.height - 6)


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "webp-lossless", "tiff", "tiff-lzw", "avif"])
def test_every_orientation_is_applied(kind: str, orientation: int) -> None:
    format, options = KINDS[kind]
    image = decode(encoded(corners(), format, exif=exif(orientation), **options), LIMITS)
    assert (image.width, image.height) == ((64, 32) if orientation < 5 else (32, 64))
    assert image.pixels.flags.c_contiguous
    left, right = SHOWN[orientation]
    assert near(at(image, left), RED)
    assert near(at(image, right), GREEN)


def test_an_image_of_many_bands_is_oriented_as_one() -> None:
    picture = noise((600, 500))
    image = decode(encoded(picture, "PNG", exif=exif(7)), LIMITS)
    assert (image.pixels == np.asarray(picture.transpose(pillow.Transpose.TRANSVERSE))).all()


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_without_a_meaning_is_ignored(value: int) -> None:
    image = decode(encoded(corners(), "JPEG", exif=exif(value)), LIMITS)
    assert (image.width, image.height) == (64, 32)
    assert near(at(image, "left top"), RED)
    assert near(at(image, "right top"), GREEN)


BROKEN_EXIF = {
    "not a TIFF": b"this is not EXIF at all",
    "empty": b"",
    "header only": b"MM\0*",
    "directory outside": b"II*\0\xff\xff\xff\x7f",
    "cut off": b"II*\0\x08\0\0\0\x05\0\x12\x01",
    "orientation is a text": b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x03\0\0\0six\0\0\0\0\0",
    "values outside": b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\xff\0\0\xff\xff\xff\x7f\0\0\0\0",
}


def with_exif(format: str, content: bytes) -> bytes:
    """A JPEG, PNG or WebP with these bytes as its EXIF."""
    data = encoded(corners(), format)
    if format == "JPEG":
        return with_jpeg_segments(data, segment(0xE1, b"Exif\0\0" + content))
    if format == "PNG":
        return with_png_chunks(data, chunk(b"eXIf", content))
    sides = (63).to_bytes(3, "little") + (31).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<IB3x", 10, 8) + sides + data[12:]
    body += b"EXIF" + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize("content", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_does_not_fail_the_image(format: str, content: bytes) -> None:
    image = decode(with_exif(format, content), LIMITS)
    assert (image.width, image.height) == (64, 32)
    assert near(pixel(image, 8, 4), RED)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'


def turned_by_xmp() -> dict[str, bytes]:
    text, raw = PngInfo(), PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    raw.add_text("Raw profile type exif", f"\nexif\n{len(exif(6).tobytes()):8}\n{exif(6).tobytes().hex()}\n")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700] = XMP
    return {
        "jpeg": encoded(corners(), "JPEG", xmp=XMP),
        "png": encoded(corners(), "PNG", pnginfo=text),
        "png behind the picture": behind_the_picture(encoded(corners(), "PNG", pnginfo=text), b"iTXt"),
        "png with a text of ImageMagick": encoded(corners(), "PNG", pnginfo=raw),
        "webp": encoded(corners(), "WEBP", lossless=True, xmp=XMP),
        "tiff": encoded(corners(), "TIFF", tiffinfo=tags),
        "avif": encoded(corners(), "AVIF", xmp=XMP),
    }


def behind_the_picture(data: bytes, kind: bytes) -> bytes:
    """A PNG whose chunk of this kind follows the image data."""
    start = data.index(kind) - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    return data[:start] + data[end:-12] + data[start:end] + data[-12:]


@pytest.mark.parametrize("name", turned_by_xmp())
def test_exif_alone_turns_a_picture(name: str) -> None:
    image = decode(turned_by_xmp()[name], LIMITS)
    assert (image.width, image.height) == (64, 32)
    assert near(at(image, "left top"), RED)


def test_exif_behind_the_picture_of_a_png_turns_it() -> None:
    image = decode(behind_the_picture(encoded(corners(), "PNG", exif=exif(6)), b"eXIf"), LIMITS)
    assert (image.width, image.height) == (32, 64)
    assert near(at(image, "right top"), RED)


def test_broken_exif_does_not_fail_an_avif() -> None:
    data = encoded(corners(), "AVIF", exif=exif(6, "a camera"))
    assert data.count(b"MM\0*") + data.count(b"II*\0") == 1
    image = decode(data.replace(b"MM\0*", b"????").replace(b"II*\0", b"????"), LIMITS)
    assert (image.width, image.height) == (32, 64)  # AVIF's own rotation holds
    assert near(at(image, "right top"), RED)


@pytest.mark.parametrize("offset", [0, 8, 100, 2**31, 2**32 - 1])
def test_a_broken_exif_directory_does_not_fail_a_tiff(offset: int) -> None:
    data = grey_tiff(2, 1, 8, bytes((10, 20)), {34665: (4, [offset])})
    assert decode(data, LIMITS).pixels[0, :, 0].tolist() == [10, 20]
