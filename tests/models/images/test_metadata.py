"""What no picture needs cannot refuse it: damaged, odd or endless metadata, and data behind the end."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image as pillow

from models.images.decoder import UnreadableImage, decode
from tests.support.data.image_files import (
    LIMITS,
    box,
    chunk,
    encoded,
    exif,
    grey_tiff,
    noise,
    png,
    segment,
    with_jpeg_segments,
    with_png_chunks,
)

PICTURES = {
    "JPEG": encoded(noise(), "JPEG"),
    "PNG": encoded(noise(), "PNG"),
    "WEBP": encoded(noise(), "WEBP", lossless=True, exif=exif(1)),
    "GIF": encoded(noise().quantize(16), "GIF"),
    "BMP": encoded(noise(), "BMP"),
    "TIFF": encoded(noise(), "TIFF", dpi=(72, 72)),
    "AVIF": encoded(noise(), "AVIF", speed=10, exif=exif(1, "a camera")),
}
PROFILE = b"ICC_PROFILE\0"
JPEG_SEGMENTS = {
    **{f"APP{number} without content": segment(0xE0 + number, b"") for number in range(16)},
    "Adobe of 5 bytes": segment(0xEE, b"Adobe"),
    "Adobe of 7 bytes": segment(0xEE, b"Adobe\0d"),
    "JFIF of 5 bytes": segment(0xE0, b"JFIF\0"),
    "profile without a number": segment(0xE2, PROFILE),
    "profile of half its parts": segment(0xE2, PROFILE + b"\1\2") * 3,
    "profile of many parts": b"".join(segment(0xE2, PROFILE + bytes((part, 255, 0))) for part in range(256)),
    "Photoshop cut short": segment(0xED, b"Photoshop 3.0\x008BIM\3\xed"),
    "Photoshop cut short in a name": segment(0xED, b"Photoshop 3.0\x008BIM\3\xed\xff"),
    "pictures of a phone cut short": segment(0xE2, b"MPF\0II*\0"),
    "FlashPix": segment(0xE2, b"FPXR\0"),
    "EXIF of nothing": segment(0xE1, b"Exif\0\0"),
    "EXIF of zeros": segment(0xE1, b"Exif\0\0" + bytes(100)),
    "EXIF of tags beyond it": segment(
        0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x1a\1\5\0\1\0\0\0\xff" * 9
    ),
    "EXIF whose resolution divides by zero": segment(
        0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x1a\0\5\0\0\0\1\0\0\0\x1a" + bytes(12)
    ),
    "XMP of nothing": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0"),
    "comments": segment(0xFE, b"a comment") * 300,
    "a length of zero": b"\xff\xe5\0\0",
}


@pytest.mark.parametrize("segments", JPEG_SEGMENTS.values(), ids=JPEG_SEGMENTS)
def test_segments_of_a_jpeg_that_hold_no_picture_cannot_refuse_it(segments: bytes) -> None:
    plain = PICTURES["JPEG"]
    expected = decode(plain, LIMITS).pixels
    assert (decode(with_jpeg_segments(plain, segments), LIMITS).pixels == expected).all()
    behind = plain.index(b"\xff\xdb")  # in front of the tables, behind JFIF
    assert (decode(plain[:behind] + segments + plain[behind:], LIMITS).pixels == expected).all()


def wrong(kind: bytes, body: bytes) -> bytes:
    """A chunk with a wrong checksum."""
    return chunk(kind, body)[:-4] + b"\1\2\3\4"


BOMB = zlib.compress(bytes(3_000_000))
PNG_CHUNKS = {
    "text": chunk(b"zTXt", b"a\0\0" + BOMB),
    "international text": chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB),
    "EXIF as text": chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "profile": chunk(b"iCCP", b"a\0\0" + BOMB),
    "300 texts": chunk(b"tEXt", b"a\0text") * 300,
    **{
        f"{kind.decode()} {name}": made
        for kind in (b"pHYs", b"gAMA", b"cHRM", b"iCCP", b"sRGB", b"tIME", b"tEXt", b"iTXt", b"zTXt", b"eXIf")
        for name, made in (("empty", chunk(kind, b"")), ("with a wrong checksum", wrong(kind, b"a\0\0\0bcd")))
    },
    "bKGD": chunk(b"bKGD", b""),
    "unknown": chunk(b"abCd", b"?" * 9),
    "key with a wrong checksum": wrong(b"tRNS", bytes(6)),
    "key of a wrong length": chunk(b"tRNS", b"\0"),
    "palette that no colour needs": chunk(b"PLTE", b"abc"),
    "animation of nothing": chunk(b"acTL", b""),
    "frame of nothing": chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(b"fcTL", b"\0\0\0\0"),
    "frames without number": chunk(b"acTL", bytes(8)),
}


@pytest.mark.parametrize("chunks", PNG_CHUNKS.values(), ids=PNG_CHUNKS)
def test_chunks_of_a_png_that_hold_no_picture_cannot_refuse_it(chunks: bytes) -> None:
    plain = PICTURES["PNG"]
    expected = decode(plain, LIMITS).pixels
    assert (decode(with_png_chunks(plain, chunks), LIMITS).pixels == expected).all()
    assert (
        decode(plain[:-12] + chunks.replace(b"PLTE", b"pLTE") + plain[-12:], LIMITS).pixels == expected
    ).all()


def test_a_key_of_a_png_counts_only_in_front_of_its_pixels() -> None:
    row = png(2, 1, 8, 0, b"\0\x10\x20", chunk(b"tRNS", b"\0\x10"))
    late = png(2, 1, 8, 0, b"\0\x10\x20")[:-12] + chunk(b"tRNS", b"\0\x10") + chunk(b"IEND", b"")
    assert decode(row, LIMITS).pixels[0, :, 0].tolist() == [255, 32]
    assert decode(late, LIMITS).pixels[0, :, 0].tolist() == [16, 32]


@pytest.mark.parametrize("format", PICTURES)
@pytest.mark.parametrize("tail", [b"\0", b"\r\n", b"\xff" * 99, b"PK\3\4" + bytes(999)])
def test_data_behind_the_end_cannot_refuse_a_picture(format: str, tail: bytes) -> None:
    expected = decode(PICTURES[format], LIMITS).pixels
    assert (decode(PICTURES[format] + tail, LIMITS).pixels == expected).all()


def webp_chunk(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    return kind + struct.pack("<I", len(body) if length is None else length) + body


WEBP_CHUNKS = {
    "profile": webp_chunk(b"ICCP", b"?" * 10),
    "EXIF": webp_chunk(b"EXIF", b"?" * 10),
    "EXIF cut short": webp_chunk(b"EXIF", b"?" * 10, 99_999),
    "XMP cut short": webp_chunk(b"XMP ", b"?" * 10, 99_999),
    "unknown": webp_chunk(b"ABCD", b"?" * 10) * 300,
}


@pytest.mark.parametrize("chunks", WEBP_CHUNKS.values(), ids=WEBP_CHUNKS)
@pytest.mark.parametrize("claimed", [0, 4, 99_999])
def test_chunks_of_a_webp_that_hold_no_picture_cannot_refuse_it(chunks: bytes, claimed: int) -> None:
    data = PICTURES["WEBP"] + chunks
    data = data[:4] + struct.pack("<I", claimed or len(data) - 8) + data[8:]
    assert (decode(data, LIMITS).pixels == decode(PICTURES["WEBP"], LIMITS).pixels).all()


TIFF_TAGS = {
    "resolution": {282: (9, [1] * 2), 283: (3, [0])},
    "XMP of many numbers": {700: (4, [7] * 500_000)},
    "profile of nothing": {34675: (3, [0])},
    "photoshop": {34377: (9, [-1])},
    "private tags": dict.fromkeys(range(50_000, 51_200), (3, [1])),
    "GPS": {34853: (4, [2**32 - 1]), 34665: (4, [2**32 - 1])},
    "software": {305: (3, [7])},
}


@pytest.mark.parametrize("tags", TIFF_TAGS.values(), ids=TIFF_TAGS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_of_a_tiff_that_hold_no_picture_cannot_refuse_it(
    tags: dict[int, tuple[int, list[int]]], order: str
) -> None:
    data = grey_tiff(9, 1, 8, bytes(range(9)), tags, order)
    assert decode(data, LIMITS).pixels[0, :, 0].tolist() == list(range(9))


def test_a_tag_of_a_tiff_that_claims_more_than_the_file_cannot_refuse_it() -> None:
    data = grey_tiff(9, 1, 8, bytes(range(9)), {305: (4, [8])})
    data = data.replace(struct.pack("<HHI", 305, 4, 1), struct.pack("<HHI", 305, 2, 2**31))
    assert decode(data, LIMITS).pixels[0, :, 0].tolist() == list(range(9))


def test_broken_metadata_of_an_avif_cannot_refuse_it() -> None:
    data = PICTURES["AVIF"]
    assert b"Exif" in data
    start = data.index(b"a camera", data.index(b"mdat")) - 30
    broken = data[:start] + b"?" * 30 + data[start + 30 :]
    assert (decode(broken, LIMITS).pixels == decode(data, LIMITS).pixels).all()
    assert decode(data + box(b"free", bytes(99)), LIMITS).width == 64


@pytest.mark.parametrize("size", [12, 40, 64, 124])
def test_a_bitmap_without_the_head_of_a_file_is_read(size: int) -> None:
    levels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    if size == 12:
        head = struct.pack("<IHHHH", 12, 4, 2, 1, 24)
    else:
        head = struct.pack("<IiiHHIIiiII", size, 4, 2, 1, 24, 0, 24, 0, 0, 0, 0).ljust(size, b"\0")
    dib = head + levels[::-1, :, ::-1].tobytes()
    assert (decode(dib, LIMITS).pixels == levels).all()


def test_a_png_of_an_app_says_what_it_is() -> None:
    data = PICTURES["PNG"][:8] + chunk(b"CgBI", bytes(4)) + PICTURES["PNG"][8:]
    with pytest.raises(UnreadableImage, match=r"Apple's form of PNG inside apps \(CgBI\)"):
        decode(data, LIMITS)


def test_a_damaged_palette_that_is_needed_is_damage() -> None:
    data = encoded(pillow.new("P", (4, 4)), "PNG")
    start = data.index(b"PLTE")
    with pytest.raises(UnreadableImage, match="damaged"):
        decode(data[: start + 4] + b"?" + data[start + 5 :], LIMITS)
