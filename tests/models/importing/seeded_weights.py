"""Weights and pictures made of a seed, equal wherever they are made: for the peers and for our tests."""

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Factors that keep activations of order one and the answers varied.
GAINS = {
    "fpn_output": 0.1,
    "fpn_convs.": 0.1,
    "cls_score.": 0.5,
    "fc_cls.": 0.5,
    "bbox_pred.": 0.5,
    "fc_reg.": 0.5,
    "anchor_deltas.": 0.15,
    "rpn_reg.": 0.15,
    "conv3.norm.weight": 0.3,
    "bn3.weight": 0.3,
}
STEMS = ("stem.conv1.weight", "backbone.conv1.weight")
BLOCK = 8  # px of one colour
SIZES = {"exact": (96, 128), "resized": (75, 110)}  # height, width


def seeded_state(shapes: Mapping[str, Sequence[int]], pixel_spread: float) -> dict[str, Tensor]:
    """Weights of these names and shapes; the normalised pixels have about that standard deviation."""
    return {name: _seeded(name, tuple(shape), pixel_spread) for name, shape in shapes.items()}


def _seeded(name: str, shape: tuple[int, ...], pixel_spread: float) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    gain = next((value for part, value in GAINS.items() if part in name), 1.0)
    if name.endswith(STEMS):
        gain /= pixel_spread
    if not shape:
        return torch.tensor(0)
    if len(shape) > 1:
        return torch.randn(shape, generator=generator) * gain * math.sqrt(2 / math.prod(shape[1:]))
    if name.endswith(("running_var", "weight")):
        return gain * (0.8 + 0.4 * torch.rand(shape, generator=generator))
    return 0.1 * torch.randn(shape, generator=generator)


def picture(name: str) -> npt.NDArray[np.uint8]:
    """The picture (H, W, 3), RGB, of that name in SIZES."""
    height, width = SIZES[name]
    shape = math.ceil(height / BLOCK), math.ceil(width / BLOCK), 3
    small = np.random.default_rng(len(name)).integers(0, 256, shape, np.uint8)
    return np.ascontiguousarray(small.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width])
