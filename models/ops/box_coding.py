"""Box decoding (Ren et al. 2015, eq. 2) on any number of leading dimensions; each bit is torchvision's."""

from functools import lru_cache

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder


def centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (..., 2) and sizes (..., 2) of boxes (..., 4) xyxy."""
    sizes = boxes[..., 2:] - boxes[..., :2]
    return torch.add(boxes[..., :2], sizes, alpha=0.5), sizes


def decode(deltas: Tensor, centres: Tensor, sizes: Tensor, coder: BoxCoder) -> Tensor:
    """Boxes (..., 4) xyxy from deltas (..., 4) to reference boxes, given by centres and sizes (..., 2)."""
    if limit := getattr(coder, "limit", None):  # torchvision's own limits growth alone, below
        deltas = limit(deltas)
    weights = tuple(coder.weights)
    if any(weight != 1 for weight in weights):
        deltas = deltas / _constant(weights, deltas.device)
    shifted = (deltas[..., :2] * sizes).add_(centres)
    extents = deltas[..., 2:].clamp(max=coder.bbox_xform_clip).exp_().mul_(sizes)
    halves = _constant((-0.5, 0.5), deltas.device)[:, None]  # half of a float is exact, so this rounds once
    return torch.addcmul(shifted[..., None, :], extents[..., None, :], halves).flatten(-2)


def clip(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes (..., 4) with coordinates from 0 to `limits`, which broadcast."""
    return boxes.clamp(_constant((0.0,), boxes.device), limits)


@lru_cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """The values on the device; copied once, as each copy would make the host wait for the device."""
    return torch.tensor(values, device=device)
