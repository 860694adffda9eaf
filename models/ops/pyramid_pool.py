"""RoIAlign over a pyramid with fixed shapes: all levels in one `embedding_bag`, and the host never waits.

The sum of `models.ops.roi_align`: the rows are the positions of all levels, NHWC, of all images, and each box
has its own level's scale, size and first row. Reads features as the engine leaves them, without the
transpose and the conversion to float32 that torchvision's CUDA kernel needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torchvision.ops import roi_pool as torchvision_roi_pool

from models.ops.roi_align import RoIAlignConfig, level_of_each, pooled_levels

EXACT_FLOATS = 2**24  # float32 holds every whole number up to here: the rows' numbers


def pool_pyramid(
    features: Sequence[Tensor],
    boxes: Tensor,
    images: Tensor,
    canvas: tuple[int, int],
    config: RoIAlignConfig,
) -> Tensor:
    """Pooled features (R, C, side, side) of boxes (R, 4) xyxy of the images (R,), inside the canvas."""
    levels, scales = pooled_levels(features, canvas, config)
    if config.quantised:
        return _pool_maxima(levels, scales, boxes, images, config)
    rows = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, level.shape[1]) for level in levels])
    sizes = boxes[:, 2:] - boxes[:, :2]
    shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
    table = _table(shapes, scales, len(levels[0]), boxes.device)[images, level_of_each(sizes, scales, config)]
    index, weight = _taps(boxes[:, :2], sizes, table, config)
    offsets = _offsets(len(boxes) * config.output_size**2, index.shape[-1] ** 2, boxes.device)
    rows = rows if rows.dtype != torch.bfloat16 else rows.float()  # its 8 bits are too few for the weights
    weights = weight.view(-1).to(rows.dtype)
    bags = torch.embedding_bag(rows, index.view(-1), offsets, False, 0, False, weights)[0]
    return bags.view(len(boxes), config.output_size, config.output_size, -1).permute(0, 3, 1, 2)


def _taps(starts: Tensor, sizes: Tensor, table: Tensor, config: RoIAlignConfig) -> tuple[Tensor, Tensor]:
    """Rows and weights (R, side, side, T, T) of every bin: T taps along y, then along x.

    As `models.ops.roi_align._samples`: a sample after the last position takes the last, one beyond the map's
    end counts as zero.
    """
    scale, last, end, stride, first = torch.split(table, [1, 2, 2, 1, 1], dim=1)
    constants = _constants(config, table.dtype, table.device)
    size = (sizes * scale).clamp(min=1.0)
    place = torch.addcmul((starts * scale)[..., None], size[..., None], constants.samples)
    inside = place <= end[..., None]  # (R, 2, side * samples), x then y; none is before the first position
    # Past the last position both taps are the last; fmin makes NaN a row that exists, as its weight is NaN.
    taps = (place[..., None] + constants.both).floor_().fmin(last[..., None, None])
    weights = torch.lerp(constants.low, constants.high, place.frac()[..., None]).mul_(inside[..., None])
    x, y = taps.view(len(starts), 2, config.output_size, -1).unbind(1)
    x_weight, y_weight = weights.view(len(starts), 2, config.output_size, -1).unbind(1)
    row = torch.addcmul(first[..., None], y, stride[..., None])
    index = row[:, :, None, :, None] + x[:, None, :, None]
    return index.int(), y_weight[:, :, None, :, None] * x_weight[:, None, :, None]


@dataclass(frozen=True, eq=False)
class _Constants:
    """Samples of a box of size 1 (side * samples,), taps, weights of a sample (2,)."""

    samples: Tensor
    both: Tensor
    low: Tensor
    high: Tensor


@lru_cache
def _constants(config: RoIAlignConfig, dtype: torch.dtype, device: torch.device) -> _Constants:
    side, samples, share = config.output_size, config.sampling_ratio, 1 / config.sampling_ratio
    of_each = (torch.arange(side * samples, dtype=torch.float64) + 0.5) / (side * samples)
    values = of_each, (0.0, 1.0), (share, 0.0), (0.0, share)
    return _Constants(*(torch.as_tensor(value).to(device, dtype) for value in values))


@lru_cache(64)
def _table(
    shapes: tuple[tuple[int, int], ...], scales: tuple[float, ...], batch: int, device: torch.device
) -> Tensor:
    """(B, L, 7) of an image's level: scale, last column and row, width, height, width, its first row."""
    rows: list[list[list[float]]] = [[] for _ in range(batch)]
    first = 0
    for (height, width), scale in zip(shapes, scales, strict=True):
        for image in rows:
            image.append([scale, width - 1, height - 1, width, height, width, first])
            first += height * width
    return torch.tensor(rows, dtype=torch.float32 if first <= EXACT_FLOATS else torch.float64).to(device)


@lru_cache(64)
def _offsets(bags: int, taps: int, device: torch.device) -> Tensor:
    """The first index of each bag."""
    return (torch.arange(bags, dtype=torch.int32) * taps).to(device)


def _pool_maxima(
    levels: Sequence[Tensor], scales: Sequence[float], boxes: Tensor, images: Tensor, config: RoIAlignConfig
) -> Tensor:
    """RoIPool of each level's boxes; the networks that have it have one level."""
    chosen = level_of_each(boxes[:, 2:] - boxes[:, :2], scales, config)[:, None, None, None]
    pooled = []
    for level, scale in zip(levels, scales, strict=True):
        rois = torch.cat([images[:, None].to(boxes), boxes * scale], dim=1)
        pooled.append(torchvision_roi_pool(level.float(), rois, config.output_size, spatial_scale=1.0))
    maxima: Tensor = pooled[0]
    for k, other in enumerate(pooled[1:], 1):
        maxima = torch.where(chosen == k, other, maxima)
    return maxima
