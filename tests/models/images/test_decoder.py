"""The decoder: what every format, mode and orientation comes out as, and which files are refused, cheaply."""

import io
import random
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow
from PIL import ImageFile, ImageOps
from PIL.PngImagePlugin import PngInfo

from models.images import decoder
from models.images.decoder import FORMATS, Image, ImageError, ImageTooLarge, InvalidImage, Limits, decode

ROOT = Path(__file__).parents[3]
LIMITS = Limits(1_000_000)
RED, GREEN, BLUE, YELLOW, WHITE = (220, 20, 30), (20, 180, 60), (30, 40, 220), (240, 220, 30), (255, 255, 255)
ORIENTATION = 0x0112


def corners(size: tuple[int, int] = (64, 32)) -> pillow.Image:
    """Four flat quadrants: red, green; blue, yellow."""
    width, height = size
    picture = pillow.new("RGB", size, RED)
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    picture.paste(YELLOW, (width // 2, height // 2, width, height))
    return picture


def encoded(picture: pillow.Image, format: str, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, format, **options)
    return content.getvalue()


def noise(size: tuple[int, int] = (64, 48), mode: str = "RGB") -> pillow.Image:
    values = np.random.default_rng(3).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    return pillow.fromarray(values).resize(size, pillow.Resampling.BICUBIC).convert(mode)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *others: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(others) + data + chunk(b"IEND", b"")


def with_png_chunks(data: bytes, *chunks: bytes) -> bytes:
    return data[:33] + b"".join(chunks) + data[33:]  # behind IHDR


def with_jpeg_segments(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def tiff(tags: dict[int, tuple[int, list[int]]], strip: bytes, order: str = "<") -> bytes:
    """A TIFF of one strip, which tags 273 and 279 name; tags: number to (type 3, 4 or 9, values)."""
    tags = {273: (4, [8]), 279: (4, [len(strip)]), **tags}
    directory = 8 + len(strip) + len(strip) % 2
    rest = directory + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(numbers)}{ {3: 'H', 4: 'I', 9: 'i'}[kind] }", *numbers)
        if len(value) > 4:
            value, values = struct.pack(order + "I", rest + len(values)), values + value
        entries += struct.pack(order + "HHI", tag, kind, len(numbers)) + value.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", directory)
    return (
        head
        + strip
        + b"\0" * (len(strip) % 2)
        + struct.pack(order + "H", len(tags))
        + entries
        + bytes(4)
        + values
    )


def grey_tiff(width: int, height: int, bits: int, strip: bytes, **more: tuple[int, list[int]]) -> bytes:
    tags = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits]),
        259: (3, [1]),
        262: (3, [1]),
        277: (3, [1]),
    }
    return tiff({**tags, **{int(tag[1:]): value for tag, value in more.items()}}, strip)


def box(kind: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I", len(body) + 8) + kind + body


def avif(unit: bytes, brand: bytes = b"avif", iloc: bytes | None = None) -> bytes:
    """An AVIF's skeleton with one AV1 item."""
    file_type = box(b"ftyp", brand, bytes(4), b"avif", b"mif1")
    item = box(b"infe", bytes((2, 0, 0, 0)), struct.pack(">HH", 1, 0), b"av01", b"\0")
    items = box(b"iinf", bytes(4), struct.pack(">H", 1), item)

    def meta(start: int) -> bytes:
        place = struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, start, len(unit))
        return box(b"meta", bytes(4), items, box(b"iloc", bytes(4), place if iloc is None else iloc))

    start = len(file_type) + len(meta(0)) + 8
    return file_type + meta(start) + box(b"mdat", unit)


def sequence_header(width: int, height: int, *fields: tuple[int, int]) -> bytes:
    """An AV1 unit with a sequence header: fields as (value, bits) in front of the frame size."""
    bits = "".join(f"{value:0{count}b}" for value, count in fields)
    bits += f"{15:04b}{15:04b}{width - 1:016b}{height - 1:016b}"
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return bytes((0x12, 0x00, 0x0A, len(body))) + body  # a temporal delimiter in front


def pixel(image: Image, x: int, y: int) -> tuple[int, ...]:
    return tuple(int(value) for value in image.pixels[y, x])


def near(colour: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 8) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(colour, expected, strict=True))


# --- formats ------------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "jpeg-progressive": ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"quality": 95}),
    "webp-lossless": ("WEBP", {"lossless": True}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff-packbits": ("TIFF", {"compression": "packbits"}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg", "quality": 95}),
    "tiff-big": ("TIFF", {"big_tiff": True}),
    "avif": ("AVIF", {"quality": 95}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_comes_out_in_its_colours(kind: str) -> None:
    format, options = KINDS[kind]
    image = decode(encoded(corners(), format, **options), LIMITS)
    assert (image.format, image.width, image.height) == (format, 64, 32)
    assert image.pixels.shape == (32, 64, 3)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags.c_contiguous
    for (x, y), colour in {(8, 4): RED, (56, 4): GREEN, (8, 28): BLUE, (56, 28): YELLOW}.items():
        assert near(pixel(image, x, y), colour), (x, y)


def test_the_allowed_formats_are_those_of_the_contract() -> None:
    assert set(FORMATS) == {"JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"}


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_picture_of_several_is_shown(format: str) -> None:
    first, second = pillow.new("RGB", (32, 32), RED), pillow.new("RGB", (32, 32), BLUE)
    options = {"lossless": True} if format == "WEBP" else {}
    image = decode(encoded(first, format, save_all=True, append_images=[second], **options), LIMITS)
    assert near(pixel(image, 16, 16), RED)


def test_a_phones_multi_picture_jpeg_is_read_as_its_first_picture() -> None:
    data = encoded(corners(), "MPO", save_all=True, append_images=[pillow.new("RGB", (16, 16), WHITE)])
    assert data.count(b"\xff\xd8\xff") == 2
    image = decode(data, LIMITS)
    assert (image.format, image.width, image.height) == ("JPEG", 64, 32)
    assert near(pixel(image, 8, 4), RED)


# --- modes --------------------------------------------------------------------------------------------------

MODES = [
    ("JPEG", "L", 90, (90, 90, 90)),
    ("JPEG", "CMYK", (55, 255, 255, 0), (200, 0, 0)),
    ("PNG", "1", 255, WHITE),
    ("PNG", "L", 90, (90, 90, 90)),
    ("PNG", "LA", (90, 255), (90, 90, 90)),
    ("PNG", "RGBA", (*RED, 255), RED),
    ("BMP", "1", 255, WHITE),
    ("BMP", "L", 90, (90, 90, 90)),
    ("BMP", "RGBA", (*RED, 255), RED),
    ("GIF", "L", 90, (90, 90, 90)),
    ("TIFF", "1", 255, WHITE),
    ("TIFF", "L", 90, (90, 90, 90)),
    ("TIFF", "LA", (90, 255), (90, 90, 90)),
    ("TIFF", "RGBA", (*RED, 255), RED),
    ("TIFF", "CMYK", (55, 255, 255, 0), (200, 0, 0)),
    ("TIFF", "YCbCr", (90, 128, 128), (90, 90, 90)),
    ("WEBP", "RGBA", (*RED, 255), RED),
    ("AVIF", "RGBA", (*RED, 255), RED),
]


@pytest.mark.parametrize(("format", "mode", "value", "expected"), MODES)
def test_every_mode_becomes_rgb(format: str, mode: str, value: object, expected: tuple[int, ...]) -> None:
    image = decode(encoded(pillow.new(mode, (24, 16), value), format), LIMITS)
    assert near(pixel(image, 12, 8), expected, 4)


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_becomes_its_colours(format: str) -> None:
    image = decode(encoded(corners().quantize(8), format), LIMITS)
    assert near(pixel(image, 8, 4), RED, 2)
    assert near(pixel(image, 56, 28), YELLOW, 2)


def test_lab_becomes_rgb() -> None:
    image = decode(encoded(corners().convert("LAB"), "TIFF"), LIMITS)
    assert near(pixel(image, 8, 4), RED, 6)  # eight bits of LAB are coarse


def test_cmyk_jpeg_without_the_adobe_mark_is_not_inverted() -> None:
    inverted = encoded(
        pillow.new("CMYK", (24, 16), (200, 0, 0, 255)), "JPEG"
    )  # stored inverted, marked as such
    start = inverted.index(b"\xff\xee")
    plain = inverted[:start] + inverted[start + 2 + int.from_bytes(inverted[start + 2 : start + 4], "big") :]
    assert near(pixel(decode(inverted, LIMITS), 12, 8), (0, 0, 0), 4)
    assert near(
        pixel(decode(plain, LIMITS), 12, 8), (200, 0, 0), 4
    )  # (55, 255, 255, 0) as it stands in the file


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK"])
def test_an_image_of_many_bands_equals_the_whole_conversion(mode: str) -> None:
    picture = noise((600, 700)).quantize(32) if mode == "P" else noise((600, 700), mode)
    data = encoded(picture, "TIFF")
    assert (decode(data, LIMITS).pixels == np.asarray(picture.convert("RGB"))).all()


# --- wide values --------------------------------------------------------------------------------------------

STEPS = np.array([[0, 257, 128 * 257, 65_535]], np.uint16)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    for format in ("PNG", "TIFF"):
        data = encoded(pillow.fromarray(STEPS.repeat(2, 0)), format)
        assert decode(data, LIMITS).pixels[1, :, 0].tolist() == [0, 1, 128, 255], format


def test_sixteen_bits_of_any_byte_order_and_colour_are_scaled() -> None:
    big = tiff(
        {256: (4, [4]), 257: (4, [1]), 258: (3, [16]), 259: (3, [1]), 262: (3, [1])},
        STEPS.astype(">u2").tobytes(),
        ">",
    )
    assert decode(big, LIMITS).pixels[0, :, 2].tolist() == [0, 1, 128, 255]
    colours = struct.pack(">BHHH", 0, 65_535, 32_896, 0)
    assert pixel(decode(png(1, 1, 16, 2, colours), LIMITS), 0, 0) == (255, 128, 0)


def test_twelve_bits_and_white_as_zero_use_their_own_range() -> None:
    twelve = bytes((0x00, 0x0F, 0xFF))  # 0 and 4095
    assert decode(grey_tiff(2, 1, 12, twelve), LIMITS).pixels[0, :, 0].tolist() == [0, 255]
    inverted = grey_tiff(4, 1, 16, STEPS.tobytes(), _262=(3, [0]))
    assert decode(inverted, LIMITS).pixels[0, :, 0].tolist() == [255, 254, 127, 0]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_wider_values_are_stretched_between_their_extremes(kind: type) -> None:
    values = np.array([[-1000, 0, 1000, 3000]], kind)
    data = encoded(pillow.fromarray(values.repeat(3, 0)), "TIFF")
    assert decode(data, LIMITS).pixels[2, :, 1].tolist() == [0, 64, 128, 255]


def test_floats_that_are_no_numbers_are_black_and_a_flat_image_is_legal() -> None:
    values = np.array([[np.nan, -np.inf, np.inf, 0.0, 0.5]], np.float32)
    image = decode(encoded(pillow.fromarray(values), "TIFF"), LIMITS)
    assert image.pixels[0, :, 0].tolist() == [0, 0, 255, 0, 255]
    for flat in (0.5, np.nan):
        picture = pillow.fromarray(np.full((2, 2), flat, np.float32))
        assert decode(encoded(picture, "TIFF"), LIMITS).pixels.max() == 0


def test_a_wide_image_of_many_bands_is_scaled_as_one() -> None:
    values = np.arange(600 * 700, dtype=np.float64).reshape(700, 600)
    image = decode(encoded(pillow.fromarray(values.astype(np.float32)), "TIFF"), LIMITS)
    assert (image.pixels[:, :, 0] == np.rint(values * (255 / float(values.max())))).all()


# --- transparency -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_transparent_pixels_are_white_whatever_colour_they_hide(format: str) -> None:
    picture = pillow.new("RGBA", (32, 32), (*RED, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 16, 32))
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    image = decode(encoded(picture, format, **options), LIMITS)
    assert near(pixel(image, 4, 16), WHITE, 4)
    assert near(pixel(image, 28, 16), RED)


def test_half_transparent_is_half_white() -> None:
    for mode, value in (("RGBA", (0, 0, 0, 128)), ("LA", (0, 128))):
        data = encoded(pillow.new(mode, (4, 4), value), "PNG")
        assert pixel(decode(data, LIMITS), 1, 1) == (127, 127, 127)


def test_premultiplied_grey_is_laid_on_white() -> None:
    tags = {
        256: (4, [2]),
        257: (4, [1]),
        258: (3, [8, 8]),
        259: (3, [1]),
        262: (3, [1]),
        277: (3, [2]),
        338: (3, [1]),
    }
    image = decode(tiff(tags, bytes((100, 255, 0, 0))), LIMITS)
    assert image.pixels[0, :, 0].tolist() == [100, 255]


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(format: str) -> None:
    picture = pillow.new("P", (8, 8), 1)
    picture.putpalette([*BLUE, *RED, *GREEN])
    picture.paste(0, (0, 0, 4, 8))
    image = decode(encoded(picture, format, transparency=0), LIMITS)
    assert (pixel(image, 1, 1), pixel(image, 6, 1)) == (WHITE, RED)


def test_a_palette_with_an_alpha_an_entry_is_blended() -> None:
    picture = pillow.new("P", (8, 8), 1)
    picture.putpalette([*BLUE, 0, 0, 0, *GREEN])
    image = decode(encoded(picture, "PNG", transparency=bytes((0, 128, 255))), LIMITS)
    assert pixel(image, 1, 1) == (127, 127, 127)


@pytest.mark.parametrize(
    ("mode", "value", "key"),
    [("L", 7, 7), ("RGB", (1, 2, 3), (1, 2, 3)), ("1", 0, 0), ("I;16", 300, 300)],
)
def test_a_transparent_colour_is_white(mode: str, value: object, key: object) -> None:
    data = encoded(pillow.new(mode, (4, 4), value), "PNG", transparency=key)
    assert b"tRNS" in data
    assert pixel(decode(data, LIMITS), 1, 1) == WHITE


def test_a_transparent_colour_of_sixteen_bits_is_white() -> None:
    row = struct.pack(">BHHHHHH", 0, 0xC012, 0, 0, 0, 65_535, 0)
    data = png(2, 1, 16, 2, row, chunk(b"tRNS", struct.pack(">HHH", 0xC012, 0, 0)))
    image = decode(data, LIMITS)
    assert (pixel(image, 0, 0), pixel(image, 1, 0)) == (WHITE, (0, 255, 0))


# --- orientation --------------------------------------------------------------------------------------------

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
    exif = pillow.Exif()
    exif[ORIENTATION] = orientation
    image = decode(encoded(corners(), format, exif=exif, **options), LIMITS)
    assert (image.width, image.height) == ((64, 32) if orientation < 5 else (32, 64))
    assert image.pixels.flags.c_contiguous
    left, right = SHOWN[orientation]
    assert near(at(image, left), RED)
    assert near(at(image, right), GREEN)


def test_a_large_image_is_oriented_as_one() -> None:
    picture = noise((600, 500))
    exif = pillow.Exif()
    exif[ORIENTATION] = 7
    image = decode(encoded(picture, "PNG", exif=exif), LIMITS)
    assert (image.pixels == np.asarray(picture.transpose(pillow.Transpose.TRANSVERSE))).all()


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_without_a_meaning_is_ignored(value: int) -> None:
    exif = pillow.Exif()
    exif[ORIENTATION] = value
    image = decode(encoded(corners(), "JPEG", exif=exif), LIMITS)
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


@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF.keys())
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_does_not_fail_the_image(format: str, exif: bytes) -> None:
    data = encoded(corners(), format)
    if format == "JPEG":
        data = with_jpeg_segments(data, segment(0xE1, b"Exif\0\0" + exif))
    elif format == "PNG":
        data = with_png_chunks(data, chunk(b"eXIf", exif))
    else:
        body = data[12:] + b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) % 2)
        extended = (
            b"VP8X" + struct.pack("<IB3x", 10, 8) + (63).to_bytes(3, "little") + (31).to_bytes(3, "little")
        )
        data = b"RIFF" + struct.pack("<I", len(extended + body) + 4) + b"WEBP" + extended + body
    image = decode(data, LIMITS)
    assert (image.width, image.height) == (64, 32)
    assert near(pixel(image, 8, 4), RED)


def test_broken_exif_does_not_fail_an_avif() -> None:
    exif = pillow.Exif()
    exif[ORIENTATION], exif[0x010F] = 6, "a camera"
    data = encoded(corners(), "AVIF", exif=exif)
    assert data.count(b"MM\0*") + data.count(b"II*\0") == 1
    image = decode(data.replace(b"MM\0*", b"????").replace(b"II*\0", b"????"), LIMITS)
    assert (image.width, image.height) == (32, 64)  # AVIF's own rotation holds
    assert near(at(image, "right top"), RED)


def test_a_broken_exif_directory_does_not_fail_a_tiff() -> None:
    for place in (0, 8, 100, 2**31, 2**32 - 1):
        data = grey_tiff(2, 1, 8, bytes((10, 20)), _34665=(4, [place]))
        assert decode(data, LIMITS).pixels[0, :, 0].tolist() == [10, 20]


# --- the allow-list -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "format", ["EPS", "PDF", "ICO", "PPM", "TGA", "PCX", "DDS", "SGI", "JPEG2000", "ICNS", "MSP", "XBM"]
)
def test_formats_outside_the_list_are_refused(format: str) -> None:
    mode = "1" if format in ("MSP", "XBM") else "RGB"
    with pytest.raises(InvalidImage, match=r"known format; allowed are JPEG, PNG, .* and AVIF"):
        decode(encoded(corners((64, 64)).convert(mode), format), LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"hello, this is a text and not an image",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\0" * 1000,
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"RIFF\0\0\0\0WAVEfmt ",
        b'{"image": "aGVsbG8="}',
    ],
)
def test_other_data_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="not an image of a known format"):
        decode(data, LIMITS)


def test_no_data_is_refused() -> None:
    with pytest.raises(InvalidImage, match="empty"):
        decode(b"", LIMITS)


def test_the_wrong_magic_is_not_tried_as_another_format() -> None:
    with pytest.raises(InvalidImage):
        decode(b"\x89PNG\r\n\x1a\n" + encoded(corners(), "JPEG"), LIMITS)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "lzma"])
def test_rare_tiff_compressions_are_refused(compression: str) -> None:
    picture = corners().convert("RGB" if compression == "lzma" else "1")
    with pytest.raises(InvalidImage, match=r"TIFF compression .* allowed are none, LZW, JPEG, Deflate"):
        decode(encoded(picture, "TIFF", compression=compression), LIMITS)


# --- sizes --------------------------------------------------------------------------------------------------


def test_the_pixel_limit_is_exact() -> None:
    data = encoded(pillow.new("RGB", (40, 25)), "PNG")
    assert decode(data, Limits(1000)).width == 40
    with pytest.raises(ImageTooLarge, match=r"40 x 25 = 1000 pixels; at most 999 are allowed"):
        decode(data, Limits(999))


@pytest.mark.parametrize("size", [(1, 1), (1, 65_535), (65_535, 1), (3, 200)])
def test_any_shape_is_an_image(size: tuple[int, int]) -> None:
    image = decode(encoded(pillow.new("RGB", size, RED), "PNG"), LIMITS)
    assert (image.width, image.height) == size
    assert pixel(image, size[0] - 1, size[1] - 1) == RED


def test_a_side_has_a_bound() -> None:
    with pytest.raises(ImageTooLarge, match="65536 x 1 pixels; a side may have at most 65535"):
        decode(encoded(pillow.new("RGB", (65_536, 1)), "PNG"), LIMITS)


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (0, 0)])
def test_a_side_of_zero_is_invalid(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidImage):
        decode(png(*size, 8, 2, bytes(310)), LIMITS)


def jpeg_of(width: int, height: int) -> bytes:
    data = encoded(corners(), "JPEG")
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def gif_of(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    data = encoded(corners().quantize(4), "GIF")
    start = data.index(b",", 13 + 3 * 4)
    head = data[:6] + struct.pack("<HH", *screen) + data[10:start]
    return head + b",\0\0\0\0" + struct.pack("<HH", *frame) + data[start + 9 :]


def webp_of(kind: bytes, width: int, height: int) -> bytes:
    data = encoded(pillow.new("RGBA", (64, 32), (*RED, 99)), "WEBP", lossless=True)
    start = data.index(b"VP8L")
    if kind == b"VP8L":
        bits = width - 1 | height - 1 << 14
        body = b"VP8L" + data[start + 4 : start + 9] + struct.pack("<I", bits) + data[start + 13 :]
    else:
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        body = b"VP8X" + struct.pack("<IB3x", 10, 16) + sides + data[start:]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def avif_of(claim: tuple[int, int], truth: tuple[int, int] = (64, 32)) -> bytes:
    data = encoded(pillow.new("RGB", truth, RED), "AVIF", speed=10)
    start = data.index(b"ispe") + 8
    return data[:start] + struct.pack(">II", *claim) + data[start + 8 :]


def tiled_tiff(tile: tuple[int, int]) -> bytes:
    more = {322: (4, [tile[0]]), 323: (4, [tile[1]]), 324: (4, [8]), 325: (4, [900])}
    tags = {256: (4, [64]), 257: (4, [64]), 258: (3, [8]), 259: (3, [8]), 262: (3, [1])}
    return tiff({**tags, **more}, zlib.compress(bytes(tile[0] * tile[1] if tile[0] < 9000 else 900)))


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
    "tiff tile": lambda: tiled_tiff((8192, 8192)),
    "tiff tile beyond any": lambda: tiled_tiff((65_536, 65_536)),
    "webp lossless": lambda: webp_of(b"VP8L", 16_384, 16_384),
    "webp canvas": lambda: webp_of(b"VP8X", 13_000, 13_000),
    "webp canvas beyond any": lambda: webp_of(b"VP8X", 2**24, 2**24),
    "avif": lambda: avif_of((16_384, 16_384)),
    "avif with a frame larger than it claims": lambda: avif_of((64, 32), (4096, 4096)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_for_its_size(name: str) -> None:
    with pytest.raises(ImageTooLarge, match=r"scale it down"):
        decode(BOMBS[name](), LIMITS)


MEASURE = """
import resource, sys
from pathlib import Path
from models.images.decoder import ImageTooLarge, Limits, decode
files = sorted(Path(sys.argv[1]).iterdir())
for file in files[::-1] * 2:  # the first round warms up what is loaded on demand
    before, data = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file.read_bytes()
    try:
        decode(data, Limits(1_000_000))
    except ImageTooLarge:
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(grown // (2**20 if sys.platform == "darwin" else 2**10), file.name)
"""


def test_a_bomb_is_refused_without_its_memory(tmp_path: Path) -> None:
    for number, name in enumerate(BOMBS):
        (tmp_path / f"{number:02d} {name}").write_bytes(BOMBS[name]())
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURE, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    grown = [line.split(" ", 1) for line in result.stdout.splitlines()]
    assert len(grown) == 2 * len(BOMBS)
    assert [line for line in grown if int(line[0]) > 12] == []  # MiB; the largest would take 4 GiB
    assert result.stderr == ""


# --- structures that cost time ------------------------------------------------------------------------------


def many_scans() -> bytes:
    data = encoded(noise(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 200 + data[-2:]


def endless_strips() -> bytes:
    offsets = [8] * 2000
    return grey_tiff(100, 100, 8, bytes(10_000), _278=(4, [99]), _273=(4, offsets), _279=(4, [9900] * 2000))


def claiming_tiff() -> bytes:
    """A text of 200 000 bytes in a file of some hundred."""
    software = struct.pack("<HHI", 305, 4, 1)
    return grey_tiff(9, 9, 8, bytes(81), _305=(4, [8])).replace(
        software, struct.pack("<HHI", 305, 2, 200_000)
    )


def avif_units(count: int) -> bytes:
    return avif(bytes((0x12, 0x00)) * count)


COSTLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg scans": (many_scans, "scans"),
    "jpeg exif": (
        lambda: with_jpeg_segments(encoded(noise(), "JPEG"), segment(0xE1, b"Exif\0\0x") * 9000),
        "segments",
    ),
    "jpeg comments": (
        lambda: with_jpeg_segments(encoded(noise(), "JPEG"), segment(0xFE, b"") * 9000),
        "segments",
    ),
    "jpeg segments in an unknown one": (
        lambda: with_jpeg_segments(encoded(noise(), "JPEG"), segment(0xF0, segment(0xFE, b"") * 9000)),
        "segments",
    ),
    "png chunks": (lambda: with_png_chunks(encoded(noise(), "PNG"), chunk(b"IDAT", b"") * 100_001), "chunks"),
    "png profiles": (
        lambda: with_png_chunks(
            encoded(noise(), "PNG"), chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**6))) * 300
        ),
        "metadata",
    ),
    "gif comments": (
        lambda: gif_of((64, 32), (64, 32)).replace(b",", b"!\xfe" + b"\1a" * 20_000 + b"\0,", 1),
        "block",
    ),
    "gif junk": (lambda: b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b"x" * 20_000, "blocks"),
    "tiff strips": (endless_strips, "overlap"),
    "tiff offsets": (lambda: grey_tiff(9, 9, 8, bytes(81), _273=(3, [8] * 400_001)), "numbers in one"),
    "tiff tags": (
        lambda: grey_tiff(9, 9, 8, bytes(81), **{f"_{n}": (3, [1]) for n in range(400, 1500)}),
        "tags",
    ),
    "tiff claims": (claiming_tiff, "claim more data"),
    "avif units": (lambda: avif_units(60_000), "units"),
    "avif pieces": (
        lambda: avif(b"\x12\0", iloc=struct.pack(">BBHHHH", 0, 0, 1, 1, 0, 60_000)),
        "pieces",
    ),
    "avif overlaps": (
        lambda: avif(
            b"\x12\0", iloc=struct.pack(">BBHHHH", 0x44, 0, 1, 1, 0, 90) + struct.pack(">II", 0, 0) * 90
        ),
        "overlap",
    ),
    "avif sequence": (lambda: avif(b"\x12\0", brand=b"avis"), "only stills"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_structure_that_no_encoder_writes_is_refused(name: str) -> None:
    make, reason = COSTLY[name]
    with pytest.raises(InvalidImage, match=reason):
        decode(make(), LIMITS)


def test_what_encoders_do_write_is_let_through() -> None:
    jpeg = with_jpeg_segments(
        encoded(noise(), "JPEG", progressive=True), segment(0xE2, b"ICC_PROFILE\0" * 9) * 255
    )
    with_text = PngInfo()
    for number in range(60):
        with_text.add_text(f"key {number}", "text " * 200, zip=True)
    split = encoded(noise(), "PNG")
    start = split.index(b"IDAT") - 4
    body = split[start + 8 : start + 8 + int.from_bytes(split[start : start + 4], "big")]
    split = (
        split[:start]
        + b"".join(chunk(b"IDAT", body[i : i + 1]) for i in range(len(body)))
        + chunk(b"IEND", b"")
    )
    gif = encoded(noise().quantize(16), "GIF", comment=b"a comment " * 6000)
    for data in (jpeg, encoded(noise(), "PNG", pnginfo=with_text), split, gif):
        assert decode(data, LIMITS).width == 64


ONE_POINT = ((0, 5), (0, 12), (8, 5), (0, 1))  # no display delay is told apart by the bit in front
SEQUENCES = {
    "reduced": ((0, 3), (1, 1), (1, 1), (8, 5)),
    "plain": ((0, 3), (0, 1), (0, 1), (0, 1), (0, 1), *ONE_POINT),
    "level without a tier": ((0, 3), (0, 1), (0, 1), (0, 1), (0, 1), (0, 5), (0, 12), (7, 5)),
    "timing": ((0, 3), (0, 1), (0, 1), (1, 1), (1, 32), (30, 32), (0, 1), (0, 1), (0, 1), *ONE_POINT),
    "equal timing": (
        (
            (0, 3),
            (0, 1),
            (0, 1),
            (1, 1),
            (1, 32),
            (30, 32),
            (1, 1),
            (1, 3),
            (2, 2),
            (0, 1),
            (0, 1),
            *ONE_POINT,
        )
    ),
    "decoder model": (
        *((0, 3), (0, 1), (0, 1), (1, 1), (1, 32), (30, 32), (0, 1)),
        *((1, 1), (9, 5), (1, 32), (3, 5), (3, 5)),
        *((1, 1), (1, 5)),  # a display delay, two operating points
        *((0, 12), (8, 5), (1, 1), (1, 1), (5, 10), (6, 10), (0, 1), (1, 1), (3, 4)),
        *((0, 12), (2, 5), (0, 1), (0, 1)),
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_frame_size_of_av1_is_read_in_every_shape_of_header(name: str) -> None:
    with pytest.raises(ImageTooLarge, match="image has 5000 x 3001 ="):
        decode(avif(sequence_header(5000, 3001, *SEQUENCES[name])), LIMITS)


# --- damage -------------------------------------------------------------------------------------------------


def samples() -> list[tuple[str, bytes]]:
    exif = pillow.Exif()
    exif[ORIENTATION], exif[0x010F] = 6, "a camera"
    picture, alpha = noise(), noise(mode="RGBA")
    text = PngInfo()
    text.add_text("key", "text " * 20, zip=True)
    made = [(format, encoded(picture, format, **options)) for format, options in KINDS.values()]
    made += [
        (format, encoded(picture, format, exif=exif)) for format in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
    ]
    made += [(format, encoded(alpha, format)) for format in ("PNG", "WEBP", "TIFF", "AVIF")]
    made += [("PNG", encoded(picture.quantize(16), "PNG", transparency=3, pnginfo=text))]
    made += [
        ("GIF", encoded(picture.quantize(16), "GIF", comment=b"text")),
        ("BMP", encoded(picture.quantize(16), "BMP")),
    ]
    made += [
        ("JPEG", encoded(picture.convert("CMYK"), "JPEG")),
        ("TIFF", encoded(picture.convert("LAB"), "TIFF")),
    ]
    made += [("PNG", encoded(picture, "PNG", save_all=True, append_images=[picture.rotate(90)]))]
    return made


def check_refused(data: bytes) -> None:
    """Either an image, or an error whose text can be shown to anybody."""
    try:
        image = decode(data, LIMITS)
    except ImageError as exc:
        text = str(exc)
        assert not [
            bad for bad in ("PIL", "0x", "/", "<", "Error", "Exception", "bytes-like", "\n") if bad in text
        ]
        assert 20 < len(text) < 300
    else:
        assert image.width * image.height <= LIMITS.max_pixels


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("kind", [*KINDS, "gif"])
def test_truncated_data_is_invalid(kind: str, share: float) -> None:
    format, options = KINDS.get(kind, ("GIF", {}))
    data = encoded(noise(), format, **options)
    with pytest.raises(InvalidImage):
        decode(data[: int(len(data) * share)], LIMITS)


DAMAGED = {
    "png without its palette": lambda: png(2, 1, 8, 3, bytes(3)),
    "png with an empty profile behind the picture": lambda: (
        encoded(noise(), "PNG")[:-12] + chunk(b"iCCP", b"") + chunk(b"IEND", b"")
    ),
    "png of an unknown colour type": lambda: png(2, 1, 8, 5, bytes(9)),
    "tiff with negative colours": lambda: tiff(
        {
            256: (4, [2]),
            257: (4, [1]),
            258: (3, [8]),
            259: (3, [1]),
            262: (3, [3]),
            320: (9, [-1] * 768),
        },
        bytes(2),
    ),
    "tiff with a float for a size": lambda: grey_tiff(2, 1, 8, bytes(2)).replace(
        struct.pack("<HHI", 256, 4, 1), struct.pack("<HHI", 256, 11, 1)
    ),
    "tiff without a picture": lambda: b"II*\0" + struct.pack("<IHI", 8, 0, 0),
    "bigtiff cut off": lambda: b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**62),
    "avif without anything": lambda: box(b"ftyp", b"avif", bytes(4), b"avif"),
    "avif without items": lambda: box(b"ftyp", b"avif", bytes(4), b"avif") + box(b"meta", bytes(4)),
    "avif cut off in a box": lambda: avif(b"\x12\0")[:60],
    "avif with a box in 64 bits": lambda: (
        box(b"ftyp", b"avif", bytes(4), b"avif") + struct.pack(">I4sQ", 1, b"meta", 2**40)
    ),
}


@pytest.mark.parametrize("make", DAMAGED.values(), ids=DAMAGED.keys())
def test_known_damage_is_invalid(make: Callable[[], bytes]) -> None:
    with pytest.raises(InvalidImage):
        decode(make(), LIMITS)


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_data_is_an_image_or_an_image_error(format: str, capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(f"damage {format}")  # noqa: S311 - the same damage in every run
    originals = [data for name, data in samples() if name == format]
    for number in range(400):
        data = bytearray(originals[number % len(originals)])
        reach = min(len(data), chance.choice((40, 200, 10**6)))
        for _ in range(chance.choice((1, 1, 2, 5))):
            place = chance.randrange(reach)
            data[place : place + chance.choice((0, 1, 1, 4))] = chance.choice(
                (b"\0", b"\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", bytes((chance.randrange(256),)), b"")
            )
        check_refused(bytes(data))


def test_damaged_chunks_with_a_right_checksum_are_an_image_or_an_image_error() -> None:
    chance = random.Random("chunks")  # noqa: S311 - the same damage in every run
    kinds = [
        b"IHDR",
        b"PLTE",
        b"tRNS",
        b"IDAT",
        b"eXIf",
        b"iCCP",
        b"zTXt",
        b"iTXt",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"pHYs",
    ]
    originals = [data for name, data in samples() if name == "PNG"]
    for number in range(400):
        chunks, data, place = [], originals[number % len(originals)], 8
        while place < len(data):
            length = int.from_bytes(data[place : place + 4], "big")
            chunks.append((data[place + 4 : place + 8], bytearray(data[place + 8 : place + 8 + length])))
            place += 12 + length
        where = chance.randrange(len(chunks))
        if number % 3 == 0:
            chunks.insert(where, (chance.choice(kinds), bytearray(chance.randbytes(chance.randrange(30)))))
        elif number % 3 == 1:
            del chunks[where]
        elif body := chunks[where][1]:
            body[chance.randrange(len(body))] = chance.randrange(256)
        check_refused(data[:8] + b"".join(chunk(kind, bytes(body)) for kind, body in chunks))


def test_damaged_tags_are_an_image_or_an_image_error(capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random("tags")  # noqa: S311 - the same damage in every run
    originals = [data for name, data in samples() if name == "TIFF" and data[:4] == b"II*\0"]
    for number in range(600):
        data = bytearray(originals[number % len(originals)])
        (start,) = struct.unpack_from("<I", data, 4)
        (entries,) = struct.unpack_from("<H", data, start)
        entry = start + 2 + 12 * chance.randrange(entries)
        value = chance.choice(
            (0, 1, 2, 3, 7, 8, 64, 65_535, 2**31, 2**32 - 1, len(data), chance.getrandbits(32))
        )
        struct.pack_into(
            *chance.choice(
                (
                    ("<H", data, entry + 2, value % 19),
                    ("<I", data, entry + 4, value),
                    ("<I", data, entry + 8, value),
                )
            )
        )
        check_refused(bytes(data))


@pytest.mark.parametrize("make", [*BOMBS.values(), *(make for make, _ in COSTLY.values())])
def test_the_text_of_a_refusal_can_be_shown(make: Callable[[], bytes]) -> None:
    data = make()
    with pytest.raises(ImageError):
        decode(data, LIMITS)
    check_refused(data)


def test_running_out_of_memory_is_an_image_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "PIL.Image.MAX_IMAGE_PIXELS", 10
    )  # Pillow's own bound, which an application may have lowered
    with pytest.raises(ImageTooLarge, match="more memory than it may have"):
        decode(encoded(corners(), "TIFF"), LIMITS)


# --- the world around ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [None, 1000, 10])
@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "avif"])
def test_pillows_global_pixel_bound_is_neither_asked_nor_changed(
    kind: str, bound: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", bound)
    format, options = KINDS[kind]
    assert decode(encoded(noise((600, 504)), format, **options), LIMITS).width == 600
    assert bound == pillow.MAX_IMAGE_PIXELS


def test_no_warning_is_emitted_even_where_pillow_has_one() -> None:
    twice = chunk(b"acTL", struct.pack(">II", 1, 0)) * 2  # "Invalid APNG"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(with_png_chunks(encoded(corners(), "PNG"), twice), LIMITS).width == 64
        assert decode(grey_tiff(2, 1, 8, b"ab", _256=(4, [2, 9])), LIMITS).width == 2  # "too many entries"


def test_importing_changes_nothing_and_loads_no_torch() -> None:
    program = """
import sys, warnings
import numpy  # adds filters of its own
from PIL import Image, ImageFile
before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
import models.images.decoder, models.images.drawing, models.detections, models.options
assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
assert before[1] is False
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_many_threads_decode_as_one_does() -> None:
    work = samples() + [(format, data[: len(data) // 2]) for format, data in samples()]

    def outcome(data: bytes) -> object:
        try:
            return zlib.crc32(decode(data, LIMITS).pixels)
        except ImageError as exc:
            return str(exc)

    alone = [outcome(data) for _, data in work]
    assert len(set(alone)) > 10
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(outcome, [data for _, data in work] * 5)) == alone * 5


def test_the_result_equals_pillows_own_way() -> None:
    for format, data in samples():
        if format in ("JPEG", "BMP") or (format == "PNG" and b"tRNS" not in data and data[25] == 2):
            expected = ImageOps.exif_transpose(pillow.open(io.BytesIO(data))).convert("RGB")
            assert (decode(data, LIMITS).pixels == np.asarray(expected)).all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 8, 3), np.uint8)[:, ::2],
    ],
)
def test_an_image_is_rgb_or_nothing(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pixels are"):
        Image(pixels, "PNG")


def test_limits_have_a_least_value() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Limits(0)


def test_there_is_one_name_for_every_error() -> None:
    assert issubclass(InvalidImage, decoder.ImageError)
    assert issubclass(ImageTooLarge, decoder.ImageError)
    assert not issubclass(ImageTooLarge, InvalidImage)


# --- another decoder of JPEG --------------------------------------------------------------------------------


class Other:
    """Stands for nvJPEG: gives the pixels as stored, each a little brighter than Pillow has them."""

    def __init__(self, refuses: bool = False) -> None:
        self.asked = 0
        self._refuses = refuses

    def __call__(self, data: bytes) -> np.ndarray | None:
        self.asked += 1
        pixels = np.asarray(pillow.open(io.BytesIO(data)).convert("RGB"))
        return None if self._refuses else np.minimum(pixels, 250) + np.uint8(5)


@pytest.mark.parametrize("orientation", SHOWN)
def test_another_decoder_gives_the_pixels_of_a_jpeg_and_the_rest_stays(orientation: int) -> None:
    exif = pillow.Exif()
    exif[ORIENTATION] = orientation
    data, other = encoded(corners(), "JPEG", exif=exif), Other()
    image, usual = decode(data, LIMITS, jpeg=other), decode(data, LIMITS)
    assert other.asked == 1
    assert image.format == "JPEG"
    assert (image.pixels == np.minimum(usual.pixels, 250) + 5).all()


def test_what_the_other_decoder_will_not_have_is_pillows() -> None:
    data, other = encoded(corners(), "JPEG"), Other(refuses=True)
    assert (decode(data, LIMITS, jpeg=other).pixels == decode(data, LIMITS).pixels).all()
    assert other.asked == 1


@pytest.mark.parametrize(
    "data",
    [
        encoded(corners(), "PNG"),
        encoded(corners().convert("L"), "JPEG"),
        encoded(corners().convert("CMYK"), "JPEG"),
        encoded(corners(), "JPEG", keep_rgb=True),
    ],
    ids=["png", "grey", "cmyk", "rgb"],
)
def test_the_other_decoder_is_asked_for_ordinary_jpegs_alone(data: bytes) -> None:
    other = Other()
    assert (decode(data, LIMITS, jpeg=other).pixels == decode(data, LIMITS).pixels).all()
    assert other.asked == 0


def test_limits_come_before_the_other_decoder() -> None:
    other = Other()
    with pytest.raises(ImageTooLarge):
        decode(encoded(corners(), "JPEG"), Limits(100), jpeg=other)
    assert other.asked == 0


def test_pixels_of_another_size_than_the_header_says_are_refused() -> None:
    with pytest.raises(InvalidImage, match="damaged"):
        decode(encoded(corners(), "JPEG"), LIMITS, jpeg=lambda data: np.zeros((9, 9, 3), np.uint8))
