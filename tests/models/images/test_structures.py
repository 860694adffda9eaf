"""Structures that cost a decoder hours or gigabytes are refused; those that encoders write are accepted."""

import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image as pillow
from PIL.PngImagePlugin import PngInfo

from models.images.decoder import UnreadableImage, decode
from tests.models.images.test_headers import check_text
from tests.support.data.image_files import (
    LIMITS,
    RED,
    avif,
    box,
    chunk,
    encoded,
    gif_of,
    grey_tiff,
    noise,
    segment,
    with_jpeg_segments,
    with_png_chunks,
)


def many_scans(size: tuple[int, int] = (64, 48), more: int = 200) -> bytes:
    data = encoded(pillow.new("RGB", size, RED), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * more + data[-2:]


def endless_strips() -> bytes:
    offsets = [8] * 2000
    return grey_tiff(100, 100, 8, bytes(10_000), {278: (4, [99]), 273: (4, offsets), 279: (4, [9900] * 2000)})


def jpeg_with(*segments: bytes) -> bytes:
    return with_jpeg_segments(encoded(noise(), "JPEG"), *segments)


def png_with(*chunks: bytes) -> bytes:
    return with_png_chunks(encoded(noise(), "PNG"), *chunks)


def gif_with(blocks: bytes) -> bytes:
    return gif_of((64, 32), (64, 32)).replace(b",", blocks + b",", 1)


def rle_bmp(width: int, height: int, runs: bytes) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + info + bytes(1024) + runs


def iloc(format: str, *values: int) -> bytes:
    return struct.pack(format, *values)


COMMENT = segment(0xFE, b"")
PROFILE = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**6)))
COSTLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg scans": (many_scans, "scans"),
    "jpeg scans of many pixels": (lambda: many_scans((4000, 4000), 85), "93 scans"),
    "jpeg comments": (lambda: jpeg_with(COMMENT * 100_001), "segments"),
    "jpeg tables": (lambda: jpeg_with(segment(0xDB, bytes(65)) * 2001), "segments"),
    "jpeg fill": (lambda: jpeg_with(b"\xff" * 70_000), "65536 bytes between"),
    "jpeg junk": (lambda: jpeg_with(COMMENT, bytes(70_000)), "65536 bytes between"),
    "png chunks": (lambda: png_with(chunk(b"IDAT", b"") * 100_001), "chunks"),
    "png headers": (lambda: png_with(encoded(noise(), "PNG")[8:33] * 300), "not its data"),
    "gif comments": (lambda: gif_with(b"!\xfe" + b"\1a" * 2_000_001 + b"\0"), "blocks"),
    "gif junk": (lambda: gif_with(b"x" * 2_000_001), "blocks"),
    "bmp runs": (lambda: rle_bmp(100, 100, b"\1\1" * 1_000_001), "runs"),
    "bmp pixels in runs": (lambda: rle_bmp(4000, 2001, b"\0\0"), "runs"),
    "tiff raw strips": (
        lambda: grey_tiff(9, 9, 8, bytes(81), {273: (4, [8] * 100_001)}),
        "without compression",
    ),
    "tiff strips": (endless_strips, "overlap"),
    "tiff offsets": (lambda: grey_tiff(9, 9, 8, bytes(81), {273: (3, [8] * 400_001)}), "numbers in one"),
    "avif units": (lambda: avif(b"\x12\0" * 60_000), "units"),
    "avif frames": (lambda: avif(b"\x32\0" * 9), "8 frames"),
    "avif items": (lambda: avif(b"\x12\0", iloc=iloc(">BBH", 0x44, 0, 10_001)), "items"),
    "avif boxes": (lambda: box(b"ftyp", b"avif", bytes(4), b"avif") + box(b"free") * 50_000, "boxes"),
    "avif links": (lambda: avif(b"\x12\0") + box(b"iref", bytes(140_000)), "links"),
    "avif extents": (lambda: avif(b"\x12\0", iloc=iloc(">BBHHHH", 0, 0, 1, 1, 0, 60_000)), "extents"),
    "avif overlaps": (
        lambda: avif(b"\x12\0", iloc=iloc(">BBHHHH", 0x44, 0, 1, 1, 0, 90) + bytes(8) * 90),
        "overlap",
    ),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_structure_that_no_encoder_writes_is_refused(name: str) -> None:
    make, reason = COSTLY[name]
    with pytest.raises(UnreadableImage, match=reason) as refusal:
        decode(make(), LIMITS)
    check_text(refusal.value)


def many_texts() -> PngInfo:
    texts = PngInfo()
    for number in range(60):
        texts.add_text(f"key {number}", "text " * 200, zip=True)
    return texts


def split_png() -> bytes:
    """A PNG whose image data lies in chunks of a byte."""
    data = encoded(noise(), "PNG")
    start = data.index(b"IDAT") - 4
    body = data[start + 8 : start + 8 + int.from_bytes(data[start : start + 4], "big")]
    chunks = [chunk(b"IDAT", body[at : at + 1]) for at in range(len(body))]
    return data[:start] + b"".join(chunks) + chunk(b"IEND", b"")


def padded_scans() -> bytes:
    data = encoded(noise(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + b"\xff" * 99_999 + data[last:]


USUAL = {
    "jpeg with a profile": lambda: with_jpeg_segments(
        encoded(noise(), "JPEG", progressive=True), segment(0xE2, b"ICC_PROFILE\0" * 9) * 255
    ),
    "png with texts": lambda: encoded(noise(), "PNG", pnginfo=many_texts()),
    "png in small chunks": split_png,
    "jpeg with comments": lambda: jpeg_with(COMMENT * 9000),
    "jpeg with exif in many segments": lambda: jpeg_with(segment(0xE1, b"Exif\0\0x") * 9000),
    "jpeg padded": lambda: jpeg_with(COMMENT, bytes(30_000), b"\xff" * 30_000),
    "jpeg padded between scans": padded_scans,
    "jpeg with a picture behind": lambda: encoded(noise(), "JPEG") + many_scans(more=9) * 9,
    "png with profiles": lambda: png_with(PROFILE * 300),
    "png with an empty profile after the picture": lambda: (
        encoded(noise(), "PNG")[:-12] + chunk(b"iCCP", b"") + chunk(b"IEND", b"")
    ),
    "gif with many comments": lambda: gif_with(b"!\xfe" + b"\1a" * 20_000 + b"\0"),
    "bmp in runs": lambda: rle_bmp(64, 1, b"\x40\1\0\1"),
    "gif with a comment": lambda: encoded(noise().quantize(16), "GIF", comment=b"a comment " * 6000),
}


@pytest.mark.parametrize("make", USUAL.values(), ids=USUAL)
def test_structures_that_encoders_write_are_accepted(make: Callable[[], bytes]) -> None:
    assert decode(make(), LIMITS).width == 64
