"""Draws detections onto an image: each object's box, name and score, legible at any size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow
from PIL import ImageDraw, ImageFont

from models.detections import Detections
from models.images.decoder import Image

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]
Drawing = pillow.Image  # what `draw` returns

# Distinct in hue and lightness, especially neighbours, as label ids are small numbers.
PALETTE: tuple[Colour, ...] = (
    (230, 25, 75),
    (60, 200, 80),
    (255, 225, 25),
    (40, 110, 240),
    (245, 130, 48),
    (165, 60, 200),
    (70, 230, 230),
    (240, 50, 230),
    (191, 239, 69),
    (0, 140, 140),
    (250, 170, 190),
    (150, 85, 30),
    (170, 255, 195),
    (150, 10, 30),
    (130, 140, 10),
    (255, 200, 140),
    (20, 30, 150),
    (200, 175, 255),
)
_MIN_LONG_SIDE = 320  # a smaller image is enlarged: text is not legible in a picture of 32 pixels
_TEXT_SHARE = 1 / 38  # of the side of a square with the image's area
_MIN_TEXT = 13
_MAX_NAME = 48
_JPEG_QUALITY = 90
MAX_JPEG_SIDE = 65_500  # px: libjpeg writes no larger ones


class Rect(NamedTuple):
    """A rectangle in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class _Style:
    """The style of all tags of a picture, in pixels."""

    font: Font
    line: int
    padding: int
    height: int


def encode(
    image: Image, detections: Detections, names: Sequence[str], format: Literal["png", "jpeg"]
) -> bytes:
    """Draw the detections and encode the picture; names are indexed by label id."""
    picture = draw(image, detections, names)
    content = BytesIO()
    if format == "png":
        picture.save(content, "PNG", compress_level=4)
    elif format == "jpeg":
        picture.save(content, "JPEG", quality=_JPEG_QUALITY, subsampling=0)  # colour edges of text stay sharp
    else:
        raise ValueError(f"format {format!r} is unknown; allowed are png, jpeg")
    return content.getvalue()


def draw(image: Image, detections: Detections, names: Sequence[str]) -> pillow.Image:
    """Draw the detections onto a copy of the image; names are indexed by label id.

    An image with less than 320 pixels on its long side is enlarged by an integer factor.
    """
    if image.draft:
        raise ValueError("a draft lacks the image's pixels; decode without canvas_limits to draw on it")
    factor = math.ceil(_MIN_LONG_SIDE / max(image.width, image.height))
    picture = pillow.fromarray(image.pixels)
    if factor > 1:
        picture = picture.resize((factor * image.width, factor * image.height), pillow.Resampling.NEAREST)
    style = _style(picture)
    pen = ImageDraw.Draw(picture)
    boxes = [_box(corners, picture) for corners in (factor * detections.boxes).tolist()]
    objects = list(zip(boxes, detections.labels.tolist(), detections.scores.tolist(), strict=True))
    for box, label, _ in reversed(objects):  # the highest score last, on top
        _draw_box(pen, box, _colour(label), style)
    for tag, text, label in reversed(_tags(objects, names, style, picture)):
        _draw_tag(pen, tag, text, _colour(label), style)
    return picture


def _style(picture: pillow.Image) -> _Style:
    text = max(_MIN_TEXT, round(_TEXT_SHARE * math.sqrt(picture.width * picture.height)))
    padding = max(2, text // 5)
    return _Style(
        ImageFont.load_default(text),
        line=max(2, text // 7),
        padding=padding,
        height=round(1.3 * text),
    )


def _colour(label: int) -> Colour:
    return PALETTE[label % len(PALETTE)]


def _box(corners: list[float], picture: pillow.Image) -> Rect:
    """The box rounded to whole pixels and clipped to the picture."""
    left, right = (min(max(round(x), 0), picture.width) for x in corners[::2])
    top, bottom = (min(max(round(y), 0), picture.height) for y in corners[1::2])
    return Rect(left, top, right, bottom)


def _draw_box(pen: ImageDraw.ImageDraw, box: Rect, colour: Colour, style: _Style) -> None:
    """Draw the outline inside the box, between thin dark edges that contrast with any background."""
    edge = max(1, style.line // 4)
    for inset, width, ink in ((0, style.line + 2 * edge, (0, 0, 0)), (edge, style.line, colour)):
        left, top = box.left + inset, box.top + inset
        right, bottom = max(left, box.right - 1 - inset), max(top, box.bottom - 1 - inset)
        pen.rectangle((left, top, right, bottom), outline=ink, width=width)


def _tags(
    objects: Sequence[tuple[Rect, int, float]], names: Sequence[str], style: _Style, picture: pillow.Image
) -> list[tuple[Rect, str, int]]:
    """Each box's tag, its text and label; the highest scores first, so that they get the best positions."""
    tags: list[tuple[Rect, str, int]] = []
    taken = np.zeros((len(objects), 4), np.int64)
    for index, (box, label, score) in enumerate(objects):
        name = names[label] if 0 <= label < len(names) else str(label)
        text = _fit_text(name, f" {score:.2f}", picture.width - 2 * style.padding, style.font)
        width = math.ceil(style.font.getlength(text)) + 2 * style.padding
        tag = _least_covering(box, width, style.height, picture, taken[:index])
        taken[index] = tag
        tags.append((tag, text, label))
    return tags


def _fit_text(name: str, score: str, max_width: int, font: Font) -> str:
    """The name, shortened to fit, and the score."""
    for length in range(min(len(name), _MAX_NAME), 0, -1):
        text = name[:length] + ("" if length == len(name) else "...") + score
        if font.getlength(text) <= max_width:
            return text
    return score.strip()


def _least_covering(
    box: Rect, width: int, height: int, picture: pillow.Image, taken: npt.NDArray[np.int64]
) -> Rect:
    """The position at the box, preferably above it, that covers least of the other tags."""
    tops = (box.top - height, box.top, box.bottom - height, box.bottom)
    tags = []
    for top in [top for top in tops if 0 <= top <= picture.height - height] or [0]:
        for left in (box.left, box.right - width):
            left = max(0, min(left, picture.width - width))
            tags.append(Rect(left, top, left + width, top + height))
    return min(tags, key=lambda tag: _covered(tag, taken))


def _covered(tag: Rect, taken: npt.NDArray[np.int64]) -> int:
    """Number of pixels of the other tags (N, 4) that this one covers."""
    sides = np.minimum(taken[:, 2:], tag[2:]) - np.maximum(taken[:, :2], tag[:2])
    return int(np.prod(sides.clip(min=0), axis=1).sum())


def _draw_tag(pen: ImageDraw.ImageDraw, tag: Rect, text: str, colour: Colour, style: _Style) -> None:
    pen.rectangle((tag.left, tag.top, tag.right - 1, tag.bottom - 1), fill=colour)
    middle = (tag.top + tag.bottom) / 2
    pen.text((tag.left + style.padding, middle), text, fill=ink_on(colour), font=style.font, anchor="lm")


def ink_on(colour: Colour) -> str:
    """Black or white, whichever contrasts more with a colour: 4.5 : 1 or more (WCAG)."""
    red, green, blue = ((value / 255) ** 2.2 for value in colour)
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.19 else "white"
