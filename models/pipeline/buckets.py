"""The few canvas sizes of a GPU: images of any shape share CUDA graphs and batches, at the price of padding.

The size of an image's canvas depends on that image and its limits alone, so its detections do not depend on
the others of its batch. Padding is what other images in a batch cause in torchvision.
"""

import math

from torch import Tensor
from torch.nn import functional as F

LONG_SIDES = 5  # from a square to the longest image: with limits of 800 and 1333, 4:3 and 3:2 need no padding
SHORT_SIDES = 4  # of an image that is limited by its long side: quarters of the short one
STRIDE = 32  # px; sides are multiples of it, as without buckets

# The likely shapes of images beside 4:3, the likeliest first, as long side to short side.
LIKELY = (3 / 2, 16 / 9, 1.0)


def uses_buckets(device: str, precision: str, torchvisions_ways: bool) -> bool:
    """Whether images have few canvas sizes: where graphs are recorded, and answers are not exact anyway."""
    return device.startswith("cuda") and precision in ("fp16", "bf16") and torchvisions_ways


def bucket(canvas: tuple[int, int], limits: tuple[int, int]) -> tuple[int, int]:
    """The bucket (height, width) of a canvas, for images of a short and a long side of at most `limits`."""
    short, long = (_rounded(limit) for limit in limits)
    step = (max(long, short) - short) / (LONG_SIDES - 1)
    longs = [_rounded(short + step * k) for k in range(LONG_SIDES)]
    shorts = [_rounded(short * k / SHORT_SIDES) for k in range(1, SHORT_SIDES + 1)]
    smaller, larger = _at_least(min(canvas), shorts), _at_least(max(canvas), longs)
    return (smaller, larger) if canvas[0] <= canvas[1] else (larger, smaller)


def likely_canvases(limits: tuple[int, int], usual: tuple[int, int], bucketed: bool) -> list[tuple[int, int]]:
    """Canvases worth a CUDA graph, the likeliest first: the usual one both ways, and the other buckets."""
    landscape = [usual]
    for ratio in LIKELY if bucketed else ():
        short = min(limits[0], limits[1] / ratio)
        landscape.append(bucket((_rounded(short), _rounded(short * ratio)), limits))
    both = [pair for height, width in landscape for pair in ((height, width), (width, height))]
    return list(dict.fromkeys(both))


def padded_to(pixels: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Pixels (H, W, 3), zero-padded right and below to the canvas; the same if they fill it."""
    height, width = (side - own for side, own in zip(canvas, pixels.shape[:2], strict=True))
    return F.pad(pixels, (0, 0, 0, width, 0, height)) if height or width else pixels


def _at_least(side: int, allowed: list[int]) -> int:
    return min((each for each in allowed if each >= side), default=side)


def _rounded(side: float) -> int:
    return math.ceil(math.floor(side) / STRIDE) * STRIDE
