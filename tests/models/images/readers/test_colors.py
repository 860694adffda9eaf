"""Colours that formats store in odd ways: inks, transparent colours, and a GIF's canvas."""

import struct

import numpy as np
import pytest
from PIL import Image as pillow

from models.images.decoder import UnreadableImage, decode
from models.images.video.frames import read_frames
from tests.support.data.image_files import (
    BLUE,
    LIMITS,
    RED,
    WHITE,
    chunk,
    encoded,
    gif_frame,
    gif_on_canvas,
    near,
    noise,
    pixel,
    png,
    without_segment,
)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_inks_without_adobes_marker_are_those_with_it(options: dict[str, object]) -> None:
    """What strips metadata strips the marker; every viewer takes the inks as inverted all the same."""
    marked = encoded(noise(mode="CMYK"), "JPEG", **options)
    plain = without_segment(marked, 0xEE)
    assert len(plain) == len(marked) - 16
    assert (decode(plain, LIMITS).pixels == decode(marked, LIMITS).pixels).all()
    assert decode(marked, LIMITS).pixels.std() > 20


def ycck(sampling: int, table: int, marker: bytes) -> bytes:
    """A JPEG of four components whose second and third are sampled or quantised as chroma is."""
    data = bytearray(encoded(noise(mode="CMYK"), "JPEG"))
    frame = data.index(b"\xff\xc0")
    for component in (0, 3):
        data[frame + 11 + 3 * component] = sampling
    for component in (1, 2):
        data[frame + 12 + 3 * component] = table
    if table:
        start = data.index(b"\xff\xdb")
        tables = bytes(data[start : start + 69])
        data[start:start] = tables[:4] + bytes((table,)) + tables[5:]
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data) if marker else without_segment(bytes(data), 0xEE)


@pytest.mark.parametrize(("sampling", "table"), [(0x22, 0), (0x21, 0), (0x11, 1)])
def test_inks_that_may_be_ycck_are_refused_without_the_marker(sampling: int, table: int) -> None:
    with pytest.raises(UnreadableImage, match="YCCK without the marker of Adobe"):
        decode(ycck(sampling, table, b""), LIMITS)


def test_ycck_with_the_marker_is_an_image() -> None:
    assert decode(ycck(0x11, 1, b"marker"), LIMITS).width == 64


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


def test_a_transparent_colour_of_sixteen_bits_is_that_one_alone() -> None:
    row = struct.pack(">BHHHHHH", 0, 0xC012, 0, 0, 0xC013, 0, 0)
    data = png(2, 1, 16, 2, row, chunk(b"tRNS", struct.pack(">HHH", 0xC012, 0, 0)))
    image = decode(data, LIMITS)
    assert (pixel(image, 0, 0), pixel(image, 1, 0)) == (WHITE, (192, 0, 0))


@pytest.mark.parametrize(
    ("depth", "key", "row", "shown"),
    [
        (1, 1, b"\x80", [255, 0]),
        (1, 0, b"\x80", [255, 255]),
        (2, 3, b"\x70", [85, 255]),
        (2, 2, b"\x90", [255, 85]),
        (4, 9, b"\x95", [255, 85]),
        (4, 0xF9, b"\x95", [255, 85]),  # the lower bits count
        (8, 9, b"\x09\x05", [255, 5]),
        (8, 0x109, b"\x09\x05", [255, 5]),
        (16, 777, struct.pack(">HH", 777, 778), [255, 3]),
    ],
)
def test_a_transparent_grey_is_white_at_every_depth(
    depth: int, key: int, row: bytes, shown: list[int]
) -> None:
    data = png(2, 1, depth, 0, b"\0" + row, chunk(b"tRNS", struct.pack(">H", key)))
    assert decode(data, LIMITS).pixels[0, :, 0].tolist() == shown


def test_a_colour_of_eight_bits_is_compared_by_its_lower_byte() -> None:
    data = png(2, 1, 8, 2, bytes((0, 1, 2, 3, 1, 2, 4)), chunk(b"tRNS", struct.pack(">HHH", 0x701, 0x702, 3)))
    assert decode(data, LIMITS).pixels[0].tolist() == [[255, 255, 255], [1, 2, 4]]


def test_a_palette_entry_of_a_transparent_tiff_is_blended() -> None:
    picture = pillow.new("PA", (8, 8), (1, 128))
    picture.putpalette([*BLUE, 0, 0, 0])
    image = decode(encoded(picture, "TIFF"), LIMITS)
    assert near(pixel(image, 1, 1), (127, 127, 127), 1)


def test_the_canvas_around_a_gifs_frame_is_white() -> None:
    image = decode(gif_on_canvas((9, 7), gif_frame((2, 3, 4, 2), 1)), LIMITS)
    expected = np.full((7, 9, 3), 255, np.uint8)
    expected[3:5, 2:6] = RED
    assert (image.pixels == expected).all()


NONE, KEEP, CLEAR, RESTORE = 0, 1, 2, 3
DISPOSALS = {
    "kept": ([((2, 2, 3, 3), NONE), ((0, 0, 1, 1), KEEP)], [RED, BLUE]),
    "cleared": ([((2, 2, 3, 3), CLEAR), ((0, 0, 1, 1), KEEP)], [WHITE, BLUE]),
    "restored": ([((2, 2, 3, 3), RESTORE), ((0, 0, 1, 1), KEEP)], [WHITE, BLUE]),
    "full and cleared": ([((0, 0, 9, 7), CLEAR), ((0, 0, 1, 1), KEEP)], [WHITE, BLUE]),
}


@pytest.mark.parametrize("name", DISPOSALS)
def test_what_a_gif_clears_is_white(name: str) -> None:
    frames, (there, corner) = DISPOSALS[name]
    data = gif_on_canvas((9, 7), *(gif_frame(box, 1 + index, way) for index, (box, way) in enumerate(frames)))
    second = list(read_frames(data, LIMITS))[1].pixels
    assert (tuple(second[3, 3]), tuple(second[0, 0]), tuple(second[6, 8])) == (there, corner, WHITE)


def test_a_frame_that_is_cleared_later_leaves_white() -> None:
    full, spot = gif_frame((0, 0, 9, 7), 1), gif_frame((2, 2, 3, 3), 2, CLEAR)
    third = list(read_frames(gif_on_canvas((9, 7), full, spot, gif_frame((0, 0, 1, 1), 2)), LIMITS))[2].pixels
    assert (tuple(third[3, 3]), tuple(third[6, 8])) == (WHITE, RED)
