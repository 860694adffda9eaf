"""Drawn images: lines where the boxes are, a colour a class, tags that can be read and stay inside."""

import io
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

from models.detections import Detections
from models.images.decoder import Image, Limits, decode
from models.images.drawing import PALETTE, draw, encode

NAMES = [
    "background",
    "circle",
    "square",
    "W" * 60,
]
GREY = (128, 128, 128)


def blank(width: int, height: int) -> Image:
    return Image(np.full((height, width, 3), GREY, np.uint8), "PNG")


def found(*objects: tuple[tuple[float, float, float, float], int, float]) -> Detections:
    boxes = np.array([box for box, _, _ in objects], np.float32).reshape(-1, 4)
    labels = np.array([label for _, label, _ in objects], np.int64)
    return Detections(boxes, labels, np.array([score for _, _, score in objects], np.float32))


def pixels(picture: pillow.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"))


def where(picture: pillow.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The smallest box, x1, y1, x2, y2, around all pixels of a colour."""
    rows, columns = np.nonzero((pixels(picture) == colour).all(axis=2))
    assert rows.size, "the colour is nowhere"
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


DARK = (3, 5, 9, 11)  # labels whose colours have white text
MANY_NAMES = [f"name {number}" for number in range(12)]


def ink(picture: pillow.Image) -> int:
    """How many pixels are white, as nothing but text on a dark tag is."""
    return int((pixels(picture) == 255).all(axis=2).sum())


def test_nothing_found_changes_nothing() -> None:
    image = blank(640, 480)
    assert (pixels(draw(image, Detections.empty(), NAMES)) == image.pixels).all()


def test_the_image_itself_is_left_as_it_is() -> None:
    image = blank(640, 480)
    draw(image, found(((10, 20, 300, 200), 1, 0.9)), NAMES)
    assert (image.pixels == GREY).all()


def test_a_box_is_drawn_where_it_is_and_its_inside_left_free() -> None:
    picture = draw(blank(640, 480), found(((100, 200, 300, 400), 1, 0.9)), NAMES)
    left, _, right, bottom = where(picture, PALETTE[1])
    assert (left - 100, right - 300, bottom - 400) == pytest.approx((0, 0, 0), abs=2)
    assert (pixels(picture)[220:380, 120:280] == GREY).all()
    assert (pixels(picture)[:170] == GREY).all()
    assert (pixels(picture)[402:] == GREY).all()


def test_the_line_has_dark_edges() -> None:
    row = pixels(draw(blank(640, 480), found(((100, 200, 300, 400), 1, 0.9)), NAMES))[300]
    assert row[100].tolist() == [0, 0, 0]
    assert row[101].tolist() == list(PALETTE[1])


def test_every_class_has_its_own_colour_always_the_same() -> None:
    objects = found(
        ((10, 60, 110, 160), 1, 0.9), ((210, 60, 310, 160), 2, 0.8), ((410, 60, 510, 160), 1, 0.7)
    )
    first, second = (pixels(draw(blank(640, 480), objects, NAMES)) for _ in range(2))
    assert (first == second).all()
    assert first[100, 11].tolist() == first[100, 411].tolist() == list(PALETTE[1])
    assert first[100, 211].tolist() == list(PALETTE[2])


def test_the_palettes_colours_are_distinct() -> None:
    assert len(set(PALETTE)) == len(PALETTE) >= 16
    for one, other in itertools.combinations(PALETTE, 2):
        assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) > 45**2, (one, other)


def test_label_ids_beyond_the_palette_and_the_names_are_drawn() -> None:
    label = 5 + len(PALETTE)
    where(draw(blank(640, 480), found(((100, 100, 300, 300), label, 0.9)), NAMES), PALETTE[5])


def test_the_tag_shows_the_name_and_the_score() -> None:
    """Equal text makes an equal tag; another name or score makes another."""

    def tag(label: int, score: float, names: list[str]) -> bytes:
        picture = draw(blank(640, 480), found(((100, 100, 300, 300), label, score)), names)
        return picture.crop((100, 60, 300, 99)).tobytes()

    same = tag(1, 0.98, NAMES)
    assert same == tag(1, 0.981, NAMES)
    assert len({same, tag(1, 0.97, NAMES), tag(1, 0.98, ["", "square"]), tag(2, 0.98, NAMES)}) == 4
    assert tag(9, 0.5, NAMES) == tag(9, 0.5, [*["x"] * 9, "9"])  # a label without a name is its number


@pytest.mark.parametrize("colour", range(len(PALETTE)))
def test_the_text_stands_out_from_its_tag(colour: int) -> None:
    picture = draw(blank(1280, 960), found(((100, 100, 600, 600), colour, 0.98)), ["circle"] * len(PALETTE))
    tag = pixels(picture)[76:98, 104:200].reshape(-1, 3).astype(int)
    shades, fill = luminance(tag), luminance(np.array(PALETTE[colour]))
    contrast = (np.maximum(shades, fill) + 0.05) / (np.minimum(shades, fill) + 0.05)
    assert contrast.max() >= 4.5
    assert (contrast > 2.5).mean() > 0.05


def luminance(colours: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """WCAG's relative luminance (...) of sRGB colours (..., 3)."""
    shares = colours / 255
    linear = np.where(shares <= 0.03928, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


@pytest.mark.parametrize(
    ("box", "name"),
    [
        ((0, 0, 50, 40), "the upper left corner"),
        ((590, 0, 640, 40), "the upper right corner"),
        ((0, 440, 50, 480), "the lower left corner"),
        ((590, 440, 640, 480), "the lower right corner"),
        ((0, 0, 640, 480), "everything"),
        ((-50, -50, 700, 600), "more than everything"),
        ((639, 479, 640, 480), "a pixel"),
        ((300, 200, 300, 200), "nothing"),
        ((900, 900, 950, 950), "something outside"),
    ],
)
def test_a_tag_is_whole_and_inside_the_image(box: tuple[float, float, float, float], name: str) -> None:
    picture = draw(blank(640, 480), found((box, DARK[0], 0.98)), MANY_NAMES)
    middle = draw(blank(640, 480), found(((300, 200, 310, 210), DARK[0], 0.98)), MANY_NAMES)
    assert picture.size == (640, 480)
    assert ink(picture) == ink(middle) > 40, name


def test_tags_do_not_cover_each_other_where_there_is_room() -> None:
    boxes = [(100.0 + 4 * number, 200.0, 400.0 + 4 * number, 400.0) for number in range(4)]
    objects = [(box, label, 0.5) for box, label in zip(boxes, DARK, strict=True)]
    alone = [draw(blank(640, 480), found(one), MANY_NAMES) for one in objects]
    assert ink(draw(blank(640, 480), found(*objects), MANY_NAMES)) == sum(ink(one) for one in alone)


def test_the_highest_score_is_on_top() -> None:
    box = (100.0, 100.0, 300.0, 300.0)
    picture = pixels(draw(blank(640, 480), found((box, 1, 0.9), (box, 2, 0.3)), NAMES))
    assert picture[200, 101].tolist() == list(PALETTE[1])


def test_a_long_name_is_cut_and_its_score_kept() -> None:
    one, other = (
        draw(blank(330, 250), found(((10, 100, 60, 150), 3, score)), NAMES) for score in (0.98, 0.11)
    )
    left, _, right, _ = where(one, PALETTE[3])
    assert 200 < right - left <= 330
    assert pixels(one).tobytes() != pixels(other).tobytes()


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((32, 32), (320, 320)),
        ((1, 1), (320, 320)),
        ((48, 20), (336, 140)),
        ((320, 20), (320, 20)),
        ((640, 480), (640, 480)),
    ],
)
def test_a_tiny_image_is_enlarged_by_a_whole_factor(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    objects = found(((0, 0, size[0], size[1]), 1, 0.9))
    picture = draw(blank(*size), objects, NAMES)
    assert picture.size == drawn
    left, top, right, bottom = where(picture, PALETTE[1])
    assert (left, top) <= (2, 2)
    assert (right, bottom) >= (drawn[0] - 2, drawn[1] - 2)


def test_text_and_lines_grow_with_the_image() -> None:
    heights, lines = [], []
    for factor in (1, 4):
        size = (640 * factor, 480 * factor)
        picture = draw(
            blank(*size),
            found(((100.0 * factor, 100.0 * factor, 300.0 * factor, 300.0 * factor), 1, 0.9)),
            NAMES,
        )
        _, top, _, _ = where(picture, PALETTE[1])
        heights.append(100 * factor - top)
        lines.append(int((pixels(picture)[200 * factor, : 200 * factor] == PALETTE[1]).all(axis=1).sum()))
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.15)
    assert lines[1] > 2 * lines[0]
    assert heights[0] >= 15


@pytest.mark.parametrize("size", [(3, 4000), (4000, 3), (2000, 60), (40, 900)])
def test_narrow_images_are_drawn_too(size: tuple[int, int]) -> None:
    picture = draw(blank(*size), found(((0, 0, size[0], size[1]), 1, 0.9), ((0, 0, 1, 1), 2, 0.5)), NAMES)
    assert picture.size == size
    where(picture, PALETTE[1])


def test_a_thousand_objects_are_drawn() -> None:
    corners = np.random.default_rng(0).random((1000, 2)) * 400
    objects = found(*(((x, y, x + 80, y + 60), 1, 0.5) for x, y in corners.tolist()))
    where(draw(blank(640, 480), objects, NAMES), PALETTE[1])


@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_a_picture_is_encoded_in_the_asked_format(format: str) -> None:
    image, objects = blank(200, 100), found(((20, 40, 120, 90), 1, 0.9))
    data = encode(image, objects, NAMES, format)  # type: ignore[arg-type]  # a parameter is a plain str
    again = decode(data, Limits(10**6))
    assert (again.format, again.width, again.height) == (format.upper(), 400, 200)
    expected = pixels(draw(image, objects, NAMES)).astype(int)
    assert abs(again.pixels - expected).mean() <= (0 if format == "png" else 4)


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="'gif' is unknown; allowed are png, jpeg"):
        encode(blank(8, 8), Detections.empty(), NAMES, "gif")  # type: ignore[arg-type]  # the point of the test


def test_an_encoded_picture_has_no_metadata() -> None:
    data = encode(blank(400, 300), Detections.empty(), NAMES, "png")
    assert pillow.open(io.BytesIO(data)).info == {}
