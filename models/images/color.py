"""Converts a Pillow image of any mode to 8-bit RGB: transparency on white, wide grey values scaled, CMYK."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, ImageChops
from PIL import Image as pillow
from PIL.ImageFile import ImageFile


def converter(picture: ImageFile) -> Callable[[pillow.Image], npt.NDArray[Any]]:
    """The function that converts a band of this picture to RGB."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        black, white = _black_and_white(picture)
        return partial(_from_levels, black=black, white=white, transparent=picture.info.get("transparency"))
    if isinstance(transparent := picture.info.get("transparency"), tuple) and max(transparent) > 255:
        picture.info["transparency"] = tuple(value >> 8 for value in transparent)  # of 16-bit samples, now 8
    if picture.has_transparency_data:
        return _on_white
    if picture.mode == "CMYK" and picture.format == "JPEG" and "adobe" not in picture.info:
        return _from_plain_cmyk
    return _to_rgb


def _to_rgb(band: pillow.Image) -> npt.NDArray[Any]:
    return np.asarray(band if band.mode == "RGB" else band.convert("RGB"))


def _from_plain_cmyk(band: pillow.Image) -> npt.NDArray[Any]:
    """Undo the inversion that Pillow assumes for every CMYK JPEG, though only Adobe's programs invert."""
    return _to_rgb(ImageChops.invert(band))


def _on_white(band: pillow.Image) -> npt.NDArray[Any]:
    """Composite a band with transparency onto white, as a web page shows it."""
    colours = (band.convert("LA") if band.mode == "La" else band).convert("RGBA")
    page = pillow.new("RGB", band.size, "white")
    page.paste(colours, mask=colours)
    return np.asarray(page)


def _black_and_white(picture: ImageFile) -> tuple[float, float]:
    """The values of black and white: the full range for up to 16 bits, else the minimum and maximum."""
    tags = getattr(picture, "tag_v2", {})
    if picture.mode in ("I", "F"):
        values = np.asarray(picture)
        finite = values[np.isfinite(values)]
        black, white = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    else:
        bits = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
        black, white = 0.0, float(2**bits - 1)
    white_is_least = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    return (white, black) if white_is_least else (black, white)


def _from_levels(band: pillow.Image, black: float, white: float, transparent: object) -> npt.NDArray[Any]:
    """Scale wide grey values linearly to 0..255; NaN becomes black, the transparent value white."""
    values = np.asarray(band)
    scale = 255.0 / (white - black) if white != black else 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        grey = np.nan_to_num((values.astype(np.float64) - black) * scale, nan=0.0, posinf=255.0, neginf=0.0)
    grey = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return np.broadcast_to(grey[:, :, None], (*grey.shape, 3))
