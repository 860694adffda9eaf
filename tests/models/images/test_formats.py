"""Every format and mode comes out as a viewer shows it; other formats are rejected."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image as pillow
from PIL import ImageOps

from models.images.decoder import UnreadableImage, decode
from models.images.openers import FORMATS
from tests.support.data.image_files import (
    BLUE,
    GREEN,
    KINDS,
    LIMITS,
    RED,
    WHITE,
    YELLOW,
    corners,
    encoded,
    grey_tiff,
    near,
    noise,
    pixel,
    png,
    samples,
)


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
    assert set(FORMATS) == {"JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF", "JXL"}


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


def test_lab_is_refused_as_such() -> None:
    with pytest.raises(UnreadableImage, match="Lab colours"):
        decode(encoded(corners().convert("LAB"), "TIFF"), LIMITS)


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK"])
def test_an_image_of_many_bands_equals_the_whole_conversion(mode: str) -> None:
    picture = noise((600, 700)).quantize(32) if mode == "P" else noise((600, 700), mode)
    data = encoded(picture, "TIFF")
    assert (decode(data, LIMITS).pixels == np.asarray(picture.convert("RGB"))).all()


def test_the_result_equals_pillows_own_way() -> None:
    for format, data in samples():
        if format in ("JPEG", "BMP") or (format == "PNG" and b"tRNS" not in data and data[25] == 2):
            expected = ImageOps.exif_transpose(pillow.open(io.BytesIO(data))).convert("RGB")
            assert (decode(data, LIMITS).pixels == np.asarray(expected)).all()


@pytest.mark.parametrize(
    "format", ["EPS", "PDF", "ICO", "PPM", "TGA", "PCX", "DDS", "SGI", "JPEG2000", "ICNS", "MSP", "XBM"]
)
def test_formats_outside_the_list_are_refused(format: str) -> None:
    mode = "1" if format in ("MSP", "XBM") else "RGB"
    with pytest.raises(
        UnreadableImage,
        match=r"(not an allowed|a known) format; .*allowed are JPEG, PNG, .* and JXL|not an image; ",
    ):
        decode(encoded(corners((64, 64)).convert(mode), format), LIMITS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + encoded(corners(), "JPEG"), "damaged"),  # not tried as a JPEG
    ],
)
def test_other_data_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        decode(data, LIMITS)


STEPS = np.array([[0, 257, 128 * 257, 65_535]], np.uint16)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(format: str) -> None:
    data = encoded(pillow.fromarray(STEPS.repeat(2, 0)), format)
    assert decode(data, LIMITS).pixels[1, :, 0].tolist() == [0, 1, 128, 255]


WIDE = {
    "big-endian": (grey_tiff(4, 1, 16, STEPS.astype(">u2").tobytes(), order=">"), [0, 1, 128, 255]),
    "12 bits": (grey_tiff(2, 1, 12, bytes((0x00, 0x0F, 0xFF))), [0, 255]),  # 0 and 4095
    "white is zero": (grey_tiff(4, 1, 16, STEPS.tobytes(), {262: (3, [0])}), [255, 254, 127, 0]),
}


@pytest.mark.parametrize(("data", "levels"), WIDE.values(), ids=WIDE)
def test_wide_grey_of_a_tiff_uses_its_own_range(data: bytes, levels: list[int]) -> None:
    assert decode(data, LIMITS).pixels[0, :, 2].tolist() == levels


def test_sixteen_bits_a_colour_are_scaled() -> None:
    colours = struct.pack(">BHHH", 0, 65_535, 32_896, 0)
    assert pixel(decode(png(1, 1, 16, 2, colours), LIMITS), 0, 0) == (255, 128, 0)


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


NO_DATA = {
    "float32": (np.float32, -9999.0, "-9999"),
    "float32 in decimals": (np.float32, -3.4028234663852886e38, "-3.40282346638529e+38"),
    "int16": (np.int16, -32768, "-32768 "),
    "int32": (np.int32, 2**31 - 1, "2147483647"),
    "a word": (np.float32, np.nan, "nan"),
}


@pytest.mark.parametrize("name", NO_DATA)
def test_gdals_value_for_no_data_does_not_count(name: str) -> None:
    kind, value, text = NO_DATA[name]
    values = np.array([[value, 100, 151, 200]] * 2).astype(kind)
    file = io.BytesIO()
    tifffile.imwrite(file, values, extratags=[(42113, "s", 0, text, True)], metadata=None)
    assert decode(file.getvalue(), LIMITS).pixels[1, :, 0].tolist() == [0, 0, 130, 255]


def test_a_wide_image_of_many_bands_is_scaled_as_one() -> None:
    values = np.arange(600 * 700, dtype=np.float64).reshape(700, 600)
    image = decode(encoded(pillow.fromarray(values.astype(np.float32)), "TIFF"), LIMITS)
    assert (image.pixels[:, :, 0] == np.rint(values * (255 / float(values.max())))).all()


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_transparent_pixels_are_white_whatever_colour_they_hide(format: str) -> None:
    picture = pillow.new("RGBA", (32, 32), (*RED, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 16, 32))
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    image = decode(encoded(picture, format, **options), LIMITS)
    assert near(pixel(image, 4, 16), WHITE, 4)
    assert near(pixel(image, 28, 16), RED)


@pytest.mark.parametrize(("mode", "value"), [("RGBA", (0, 0, 0, 128)), ("LA", (0, 128))])
def test_half_transparent_is_half_white(mode: str, value: tuple[int, ...]) -> None:
    data = encoded(pillow.new(mode, (4, 4), value), "PNG")
    assert pixel(decode(data, LIMITS), 1, 1) == (127, 127, 127)


def test_premultiplied_grey_is_composited_onto_white() -> None:
    more = {258: (3, [8, 8]), 277: (3, [2]), 338: (3, [1])}
    image = decode(grey_tiff(2, 1, 8, bytes((100, 255, 0, 0)), more), LIMITS)
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
