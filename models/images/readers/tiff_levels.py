"""Samples of a TIFF to RGB of 8 bits: their range, inks, opacity on white, and values that are missing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.images.readers.tiff_samples import Samples

Values = npt.NDArray[Any]

_INKS = 4
_BAND_PIXELS = 2**17  # converted at a time


@dataclass(frozen=True)
class Meaning:
    """What the samples of a pixel are: so many colours, then others, of which one may be its opacity.

    `ranged`: the numbers use their whole range. Else they are stretched between their extremes.
    """

    colours: int
    white_is_least: bool
    opacity: int | None
    multiplied: bool
    ranged: bool
    no_data: float | None


@np.errstate(over="ignore", invalid="ignore")  # numbers of a file may be any, signalling NaN too
def rgb_of(samples: Samples, meaning: Meaning) -> npt.NDArray[np.uint8]:
    """RGB on white of the samples (rows, columns, samples)."""
    black, white = _range(samples, meaning)
    shown = np.empty((*samples.shape[:2], 3), np.uint8)
    for rows in _bands(*samples.shape[:2]):
        levels = _levels(samples[rows, :, : meaning.colours], black, white, meaning)
        if meaning.colours == _INKS:  # as Pillow and OpenCV do it, without a profile
            levels = (255.0 - levels[:, :, :3]) * (255.0 - levels[:, :, 3:]) / 255.0
        if meaning.opacity is not None:
            alpha = _alpha(samples[rows, :, meaning.opacity :][:, :, :1])
            levels = levels * (1.0 if meaning.multiplied else alpha) + 255.0 * (1.0 - alpha)
        shown[rows] = np.rint(np.clip(levels, 0.0, 255.0))
    return shown


def _range(samples: Samples, meaning: Meaning) -> tuple[float, float]:
    """The values of black and white."""
    if meaning.ranged:
        least, greatest = 0.0, float(np.iinfo(samples.dtype).max)
    else:
        least, greatest = np.inf, -np.inf
        for rows in _bands(*samples.shape[:2]):
            values = samples[rows, :, : meaning.colours].astype(np.float64)
            values = values[np.isfinite(values) & ~_is_missing(values, meaning.no_data)]
            if values.size:
                least, greatest = min(least, float(values.min())), max(greatest, float(values.max()))
        least, greatest = (least, greatest) if least <= greatest else (0.0, 1.0)
    return (greatest, least) if meaning.white_is_least else (least, greatest)


def _levels(values: Samples, black: float, white: float, meaning: Meaning) -> Values:
    """The values as 0 to 255; what has no value is black, as it is below all others in most maps."""
    wide = values.astype(np.float64)
    scale = 255.0 / (white - black) if white != black else 0.0
    levels = np.nan_to_num((wide - black) * scale, nan=0.0, posinf=255.0, neginf=0.0)
    if not meaning.ranged:
        levels[_is_missing(wide, meaning.no_data)] = 0.0
    return np.clip(levels, 0.0, 255.0)


def _alpha(opacity: Samples) -> Values:
    whole = 1.0 if opacity.dtype.kind == "f" else float(np.iinfo(opacity.dtype).max)
    return np.clip(np.nan_to_num(opacity.astype(np.float64) / whole), 0.0, 1.0)


def _is_missing(values: Values, no_data: float | None) -> npt.NDArray[np.bool_]:
    if no_data is None:
        return np.zeros(values.shape, np.bool_)
    return np.isclose(values, no_data, rtol=1e-6, atol=0.0, equal_nan=True)  # a float of 32 bits, in decimals


def _bands(height: int, width: int) -> Iterator[slice]:
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, top + rows)
