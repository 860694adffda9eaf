"""Sizes beyond the limits, and structures that cost a decoder hours or gigabytes, are rejected early."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as pillow
from PIL.PngImagePlugin import PngInfo

from models.images.decoder import ImageError, Limits, OversizedImage, UnreadableImage, decode
from tests.support.data.image_files import (
    KINDS,
    LIMITS,
    RED,
    avif,
    avif_of,
    box,
    chunk,
    corners,
    encoded,
    gif_of,
    grey_tiff,
    jpeg_of,
    noise,
    pixel,
    png,
    segment,
    tiled_tiff,
    webp_of,
    with_jpeg_segments,
    with_png_chunks,
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
    text = str(error)
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


def many_scans(size: tuple[int, int] = (64, 48), more: int = 200) -> bytes:
    data = encoded(pillow.new("RGB", size, RED), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * more + data[-2:]


def endless_strips() -> bytes:
    offsets = [8] * 2000
    return grey_tiff(100, 100, 8, bytes(10_000), {278: (4, [99]), 273: (4, offsets), 279: (4, [9900] * 2000)})


def claiming_tiff() -> bytes:
    """A text of 200 000 bytes in a file of about a hundred."""
    software = struct.pack("<HHI", 305, 4, 1)
    data = grey_tiff(9, 9, 8, bytes(81), {305: (4, [8])})
    return data.replace(software, struct.pack("<HHI", 305, 2, 200_000))


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
    "tiff tags": (lambda: grey_tiff(9, 9, 8, bytes(81), dict.fromkeys(range(400, 1500), (3, [1]))), "tags"),
    "tiff claims": (claiming_tiff, "claim more data"),
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
    "avif sequence": (lambda: avif(b"\x12\0", brand=b"avis"), "only still"),
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
