"""Draws detections onto an image."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from rcnn_client.images import Picture, opened

Object = tuple[str, int, float, tuple[float, float, float, float]]  # name, label id, score, box in pixels

# Far apart in hue and lightness, neighbours most of all: label ids are small numbers.
PALETTE = ("#e6194b", "#3cc850", "#ffe119", "#286ef0", "#f58230", "#a53cc8", "#46e6e6", "#f032e6", "#bfef45")
MIN_LONG_SIDE = 320  # a smaller image is enlarged: text cannot be read in 32 pixels
MIN_TEXT = 13


def draw(image: Picture, size: tuple[int, int], objects: Sequence[Object]) -> Image.Image:
    """A copy of the image with the objects' boxes, names and scores; ValueError if it is not of that size."""
    picture = opened(image)
    if picture.size != size:
        raise ValueError(
            f"the image is {picture.width}x{picture.height}, the detections are of one of "
            f"{size[0]}x{size[1]}; pass the image that was sent"
        )
    factor = math.ceil(MIN_LONG_SIDE / max(picture.size))
    if factor > 1:
        picture = picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)
    text_size = max(MIN_TEXT, round(math.sqrt(picture.width * picture.height) / 38))
    font, pen = ImageFont.load_default(text_size), ImageDraw.Draw(picture)
    for name, label, score, box in reversed(objects):  # the highest score last, on top
        colour = PALETTE[label % len(PALETTE)]
        left, top, right, bottom = (factor * round(value) for value in box)
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))
        pen.rectangle(corners, outline=colour, width=max(2, text_size // 7))
        _draw_tag(pen, (left, max(top, 0)), f"{name} {score:.2f}", colour, font)
    return picture


def _draw_tag(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    colour: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """The name and score, black or white on the box's colour, in the box's corner."""
    pen.rectangle(pen.textbbox(corner, text, font=font), fill=colour)
    grey = sum(int(colour[at : at + 2], 16) * part for at, part in ((1, 0.3), (3, 0.59), (5, 0.11)))
    pen.text(corner, text, fill="black" if grey > 128 else "white", font=font)
