"""RoIAlign over one feature map or a pyramid (He et al. 2017, §3; level choice: Lin et al. 2017, eq. 1).

Also does RoIPool (Girshick 2015), which pools whole positions. torchvision's CPU kernel visits one channel at
a time. Here the same sum is one `embedding_bag`: rows are the positions of an NHWC feature map, a bag is an
output bin, and the bilinear weights are the bag's weights, so each visit reads all channels of a position
from contiguous memory. `models.ops.pyramid_pool` does the same for all levels at once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.ops import roi_align as torchvision_roi_align
from torchvision.ops import roi_pool as torchvision_roi_pool
from torchvision.ops.poolers import LevelMapper

from models.ops.adaptive_roi_align import pool_adaptive
from models.ops.scratch import ScratchBuffer

CHUNK_FLOATS = 2**21  # output of a CPU kernel call: 8 MB, small enough for the C library to reuse its memory
NEAR = 256  # floats around a level's smallest area; rounding moves it by a few


@dataclass(frozen=True)
class RoIAlignConfig:
    """A network's pooling: feature levels, output side, samples per bin side (0: by its size), level rule."""

    levels: tuple[int, ...]
    output_size: int
    sampling_ratio: int
    canonical_scale: int
    canonical_level: int
    quantised: bool = False  # RoIPool: the maximum over whole positions, without samples
    aligned: bool = False  # boxes shifted by half a position, as of detectron2's ROIAlignV2


Kernel = Callable[[Tensor, Tensor, Tensor, RoIAlignConfig], Tensor]


def roi_align_config(network: FasterRCNN) -> RoIAlignConfig:
    """The RoI pooler of `network`; its levels are the leading ones of the backbone's output."""
    pool = network.roi_heads.box_roi_pool
    return RoIAlignConfig(
        levels=tuple(int(name) for name in pool.featmap_names),
        output_size=pool.output_size[0],
        sampling_ratio=pool.sampling_ratio,
        canonical_scale=pool.canonical_scale,
        canonical_level=pool.canonical_level,
        quantised=getattr(pool, "quantised", False),  # torchvision's own pooler never is
        aligned=getattr(pool, "aligned", False),
    )


def roi_align(
    features: Sequence[Tensor],
    proposals: Sequence[Tensor],
    canvas: tuple[int, int],
    config: RoIAlignConfig,
    buffer: ScratchBuffer | None = None,
) -> Tensor:
    """Pool each proposal from its level: (R, C, side, side), the proposals concatenated over the images.

    `features` holds every backbone level (B, C, h, w); `proposals` per image (N, 4) xyxy in canvas pixels.
    The result may lie in `buffer` and is then valid until the buffer is used again.
    """
    boxes = torch.cat(list(proposals))
    images = torch.cat([torch.full((len(p),), k, device=boxes.device) for k, p in enumerate(proposals)])
    return pool_rows(features, boxes, images, canvas, config, buffer)


def pool_rows(
    features: Sequence[Tensor],
    boxes: Tensor,
    images: Tensor,
    canvas: tuple[int, int],
    config: RoIAlignConfig,
    buffer: ScratchBuffer | None = None,
) -> Tensor:
    """As `roi_align`, for boxes (R, 4) of the images (R,)."""
    levels, scales = pooled_levels(features, canvas, config)
    levels = [level.float() for level in levels]  # a kernel's boxes have the type of its features
    chosen = level_of_each(boxes[:, 2:] - boxes[:, :2], scales, config)
    pool = _kernel(boxes.device, config)
    used = torch.unique(chosen).tolist()
    channels = levels[0].shape[1]
    # torchvision's kernels convert the whole level's layout at each call.
    in_chunks = pool in (_pool_bags, _pool_adaptive)
    chunk = max(1, CHUNK_FLOATS // (config.output_size**2 * channels)) if in_chunks else max(1, len(boxes))
    if len(used) == 1 and len(boxes) <= chunk:  # usual with a small canvas: nothing to gather
        return pool(levels[used[0]], images, boxes * scales[used[0]], config).permute(0, 3, 1, 2)
    shape = len(boxes), config.output_size, config.output_size, channels
    reused = buffer if boxes.device.type == "cpu" and in_chunks else None
    pooled = reused(*shape) if reused else levels[0].new_empty(shape)
    for k in used:
        level = levels[k].contiguous(memory_format=torch.channels_last) if in_chunks else levels[k]
        for index in torch.split(torch.where(chosen == k)[0], chunk):
            pooled[index] = pool(level, images[index], boxes[index] * scales[k], config)
    return pooled.permute(0, 3, 1, 2)


def pooled_levels(
    features: Sequence[Tensor], canvas: tuple[int, int], config: RoIAlignConfig
) -> tuple[list[Tensor], tuple[float, ...]]:
    """The feature levels that are pooled from, and their positions per canvas pixel."""
    levels = [features[k] for k in config.levels if k < len(features)]
    return levels, tuple(2.0 ** round(math.log2(level.shape[-2] / canvas[0])) for level in levels)


def level_of_each(sizes: Tensor, scales: Sequence[float], config: RoIAlignConfig) -> Tensor:
    """Index of the level of each box, of sizes (R, 2), as torchvision's LevelMapper chooses it."""
    if len(scales) == 1:
        return torch.zeros(len(sizes), dtype=torch.int64, device=sizes.device)
    areas = sizes.prod(dim=1)
    return torch.bucketize(areas, level_areas(tuple(scales), config, sizes.device), right=True)


@lru_cache
def level_areas(scales: tuple[float, ...], config: RoIAlignConfig, device: torch.device) -> Tensor:
    """The smallest area of each level but the first, found among the floats near it by LevelMapper itself."""
    finest, coarsest = (int(-math.log2(scale)) for scale in (scales[0], scales[-1]))
    mapper = LevelMapper(finest, coarsest, config.canonical_scale, config.canonical_level)
    smallest = []
    for level in range(1, len(scales)):
        side = config.canonical_scale * 2.0 ** (level + finest - config.canonical_level)
        near = torch.tensor(side**2).view(torch.int32) + torch.arange(-NEAR, NEAR, dtype=torch.int32)
        areas = near.view(torch.float32)
        unit = torch.ones_like(areas)
        mapped = mapper([torch.stack([0 * unit, 0 * unit, areas, unit], dim=1)])
        reached = areas[mapped >= level]  # none if the mapper has fewer levels than the network
        smallest.append(reached[0] if len(reached) else torch.tensor(math.inf))
    return torch.stack(smallest).to(device)


def _kernel(device: torch.device, config: RoIAlignConfig) -> Kernel:
    """The function that pools boxes (R, 4), in a level's positions, of images (R,) to (R, side, side, C)."""
    if config.quantised:
        return _pool_maxima
    if config.sampling_ratio > 0:
        return _pool_bags
    return _pool_adaptive if device.type == "cpu" else _pool_samples


def _pool_maxima(level: Tensor, images: Tensor, boxes: Tensor, config: RoIAlignConfig) -> Tensor:
    rois = torch.cat([images[:, None].to(boxes), boxes], dim=1)
    pooled: Tensor = torchvision_roi_pool(level, rois, config.output_size, spatial_scale=1.0)
    return pooled.permute(0, 2, 3, 1)


def _pool_samples(level: Tensor, images: Tensor, boxes: Tensor, config: RoIAlignConfig) -> Tensor:
    rois = torch.cat([images[:, None].to(boxes), boxes], dim=1)
    pooled: Tensor = torchvision_roi_align(
        level,
        rois,
        config.output_size,
        spatial_scale=1.0,
        sampling_ratio=config.sampling_ratio,
        aligned=config.aligned,
    )
    return pooled.permute(0, 2, 3, 1)


def _pool_adaptive(level: Tensor, images: Tensor, boxes: Tensor, config: RoIAlignConfig) -> Tensor:
    return pool_adaptive(level, images, boxes, config.output_size, config.aligned)


def _pool_bags(level: Tensor, images: Tensor, boxes: Tensor, config: RoIAlignConfig) -> Tensor:
    """Weighted sums of NHWC rows: (R, side, side, C)."""
    batch, channels, height, width = level.shape
    rows = level.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    y_index, y_weight = _samples(boxes[:, 1], boxes[:, 3], height, config)
    x_index, x_weight = _samples(boxes[:, 0], boxes[:, 2], width, config)
    first_row = (images[:, None, None] * height + y_index).int() * width  # (R, side, taps)
    # Expand each axis to taps * taps first: with so few taps, the last dimension would be all overhead.
    index = _rows_first(first_row)[:, :, None] + _columns_first(x_index.int())[:, None]
    weight = _rows_first(y_weight)[:, :, None] * _columns_first(x_weight)[:, None]
    bags = index.shape[0] * config.output_size**2  # index, weight: (R, side, side, taps * taps)
    pooled = F.embedding_bag(index.view(bags, -1), rows, per_sample_weights=weight.view(bags, -1), mode="sum")
    return pooled.view(-1, config.output_size, config.output_size, channels)


def _rows_first(taps: Tensor) -> Tensor:
    """(R, side, taps) to (R, side, taps * taps): each tap repeated `taps` times."""
    return taps.repeat_interleave(taps.shape[2], dim=2, output_size=taps.shape[2] ** 2)


def _columns_first(taps: Tensor) -> Tensor:
    """(R, side, taps) to (R, side, taps * taps): the sequence of taps repeated `taps` times."""
    return taps.repeat(1, 1, taps.shape[2])


def _samples(start: Tensor, end: Tensor, size: int, config: RoIAlignConfig) -> tuple[Tensor, Tensor]:
    """Along one axis: positions and weights (R, side, 2 * samples) whose sum is each bin's mean.

    As in torchvision: a sample outside [-1, size] counts as zero, one after the last position takes the last;
    unless it is aligned, a RoI is at least 1 wide.
    """
    side, samples = config.output_size, config.sampling_ratio
    extent = end - start
    bin_size = ((extent if config.aligned else extent.clamp(min=1.0)) / side)[:, None, None]
    start = start - 0.5 if config.aligned else start
    step = (torch.arange(samples, device=start.device) + 0.5) * bin_size / samples
    position = (
        start[:, None, None] + torch.arange(side, device=start.device)[:, None] * bin_size + step
    )  # (R, side, samples)
    inside = (position >= -1.0) & (position <= size)
    position = position.clamp(min=0.0)
    low = position.long().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    part = torch.where(low == size - 1, 0.0, position - low)
    share = inside / samples
    index = torch.stack([low, high], dim=-1).flatten(2)
    weight = torch.stack([(1 - part) * share, part * share], dim=-1).flatten(2)
    return index, weight
