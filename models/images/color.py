"""Converts a Pillow image of any mode to 8-bit RGB: transparency on white, grey values of 16 bits scaled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags
from PIL import Image as pillow
from PIL.ImageFile import ImageFile


def converter(picture: ImageFile) -> Callable[[pillow.Image], npt.NDArray[Any]]:
    """The function that converts a band of this picture to RGB."""
    if picture.mode.startswith("I;16"):
        black, white = _black_and_white(picture)
        return partial(_from_levels, black=black, white=white, transparent=picture.info.get("transparency"))
    if picture.has_transparency_data:
        return _on_white
    return _to_rgb


def _to_rgb(band: pillow.Image) -> npt.NDArray[Any]:
    return np.asarray(band if band.mode == "RGB" else band.convert("RGB"))


def _on_white(band: pillow.Image) -> npt.NDArray[Any]:
    """Composite a band with transparency onto white, as a web page shows it."""
    colours = (band.convert("LA") if band.mode == "La" else band).convert("RGBA")
    page = pillow.new("RGB", band.size, "white")
    page.paste(colours, mask=colours)
    return np.asarray(page)


def _black_and_white(picture: ImageFile) -> tuple[float, float]:
    """The values of black and white: the full range of up to 16 bits."""
    tags = getattr(picture, "tag_v2", {})
    white = float(2 ** tags.get(ExifTags.Base.BitsPerSample, (16,))[0] - 1)
    return (white, 0.0) if tags.get(ExifTags.Base.PhotometricInterpretation) == 0 else (0.0, white)


def _from_levels(band: pillow.Image, black: float, white: float, transparent: object) -> npt.NDArray[Any]:
    """Scale wide grey values linearly to 0..255; the transparent value becomes white."""
    values = np.asarray(band)
    grey = np.rint((values.astype(np.float64) - black) * (255.0 / (white - black))).astype(np.uint8)
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return np.broadcast_to(grey[:, :, None], (*grey.shape, 3))
