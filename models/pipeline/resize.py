"""Bilinear resizes as Pillow and OpenCV do them, to the byte. Without torch."""

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

Pixels = npt.NDArray[np.uint8]

COEFFICIENT = 1 << 11  # OpenCV's weights are multiples of 1 / 2048


def resize_pillow(pixels: Pixels, height: int, width: int) -> Pixels:
    """Pillow's bilinear resize of (H, W, 3), which averages when it shrinks."""
    if pixels.shape[:2] == (height, width):
        return pixels
    resized = Pillow.fromarray(pixels).resize((width, height), Pillow.Resampling.BILINEAR)
    return np.asarray(resized)


def resize_opencv(pixels: Pixels, height: int, width: int) -> Pixels:
    """OpenCV's `INTER_LINEAR` of (H, W, 3), in its fixed-point arithmetic."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.shape[0] == 2 * height and pixels.shape[1] == 2 * width:
        return _halved(pixels)
    left, right, rightness = _taps(pixels.shape[1], width)
    above, below, belowness = _taps(pixels.shape[0], height)
    # Between rows, the edge is the sum of both weights of one row, each rounded down; within rows it is one.
    across, down = _fixed(np.where(left == right, np.float32(0), rightness)), _fixed(belowness)
    touched, place = np.unique(np.concatenate([above, below]), return_inverse=True)
    rows = pixels[touched].astype(np.int32)
    lines = rows[:, left] * across[0][:, None] + rows[:, right] * across[1][:, None]
    lines >>= 4
    upper, lower = lines[place[:height]], lines[place[height:]]
    upper *= down[0][:, None, None]
    lower *= down[1][:, None, None]
    upper >>= 16
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    resized: Pixels = upper.clip(0, 255).astype(np.uint8)
    return resized


def _halved(pixels: Pixels) -> Pixels:
    """Exactly half the size: OpenCV takes the mean of four pixels."""
    blocks = pixels.reshape(len(pixels) // 2, 2, pixels.shape[1] // 2, 2, 3).astype(np.uint16)
    means: Pixels = ((blocks.sum(axis=(1, 3)) + 2) >> 2).astype(np.uint8)
    return means


Indices = npt.NDArray[np.int64]
Weights = npt.NDArray[np.int32]


def _taps(size: int, new_size: int) -> tuple[Indices, Indices, npt.NDArray[np.float32]]:
    """For each new pixel: source pixels before and after it, and the weight of the one after."""
    centres = ((np.arange(new_size) + 0.5) * (size / new_size) - 0.5).astype(np.float32)
    before = np.floor(centres)
    low = before.astype(np.int64)
    return low.clip(0, size - 1), (low + 1).clip(0, size - 1), centres - before


def _fixed(weight: npt.NDArray[np.float32]) -> tuple[Weights, Weights]:
    """The weights of the pixels before and after, in fixed point."""
    scale = np.float32(COEFFICIENT)
    return np.rint((1 - weight) * scale).astype(np.int32), np.rint(weight * scale).astype(np.int32)
