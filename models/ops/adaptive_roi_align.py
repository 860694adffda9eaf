"""RoIAlign whose number of samples follows the box's size (`sampling_ratio` 0), on the CPU.

A bin of n positions takes n samples a side, as detectron2 and mmdetection do. Neighbouring samples read the
same positions, so along each axis a bin's weights are summed over positions first: n + 2 rows of a bag in
place of 2n, and for large boxes a third of the work.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

BOUNDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # boxes with as many samples, rounded up, share a call
CHUNK_ROWS = 2**22  # rows of all bags of a call: 32 MB of indices and weights


def pool_adaptive(level: Tensor, images: Tensor, boxes: Tensor, side: int, aligned: bool) -> Tensor:
    """Pool boxes (R, 4), in the level's positions, of images (R,) from (B, C, h, w): (R, side, side, C)."""
    batch, channels, height, width = level.shape
    rows = level.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    start = boxes[:, :2] - 0.5 if aligned else boxes[:, :2]
    extent = boxes[:, 2:] - boxes[:, :2]
    extent = extent if aligned else extent.clamp(min=1.0)
    samples = (extent / side).ceil().long()  # (R, 2): across, down
    pooled = level.new_empty(len(boxes), side, side, channels)
    for chunk, (across, down) in _groups(samples, side):
        x_row, x_weight = _axis(start[chunk, 0], extent[chunk, 0], samples[chunk, 0], across, width, side)
        y_row, y_weight = _axis(start[chunk, 1], extent[chunk, 1], samples[chunk, 1], down, height, side)
        y_row = (images[chunk, None, None] * height + y_row) * width
        index = y_row[:, :, None, :, None] + x_row[:, None, :, None, :]  # (R, side, side, taps, taps)
        weight = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :]
        bags = len(chunk) * side**2
        sums = F.embedding_bag(
            index.reshape(bags, -1), rows, per_sample_weights=weight.reshape(bags, -1), mode="sum"
        )
        pooled[chunk] = sums.view(-1, side, side, channels)
    return pooled


def _groups(samples: Tensor, side: int) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Indices of boxes that are pooled together, and their most samples across and down."""
    bounds = torch.tensor(BOUNDS)
    bucket = torch.bucketize(samples, bounds)
    keys = bucket[:, 0] * (len(BOUNDS) + 1) + bucket[:, 1]
    for key in torch.unique(keys).tolist():
        members = torch.where(keys == key)[0]
        across, down = (max(1, int(count)) for count in samples[members].amax(dim=0))
        size = max(1, CHUNK_ROWS // (side**2 * (across + 2) * (down + 2)))
        for chunk in torch.split(members, size):
            yield chunk, (across, down)


def _axis(
    start: Tensor, extent: Tensor, samples: Tensor, most: int, size: int, side: int
) -> tuple[Tensor, Tensor]:
    """Along one axis: positions and weights (R, side, most + 2) whose sum is each bin's mean.

    A sample outside [-1, size] counts as zero, one after the last position takes the last.
    """
    count = samples.clamp(min=1)[:, None, None]
    bin_size = (extent / side)[:, None, None]
    number = torch.arange(most)
    position = (
        start[:, None, None] + torch.arange(side)[:, None] * bin_size + (number + 0.5) * bin_size / count
    )
    counted = (position >= -1.0) & (position <= size) & (number < samples[:, None, None])
    position = position.clamp(0.0, size - 1)
    row = position[:, :, :1].long() + torch.arange(most + 2)  # (R, side, most + 2)
    nearness = (1.0 - (position[..., None] - row[:, :, None, :]).abs()).clamp(min=0.0)
    weight = (nearness * counted[..., None]).sum(dim=2) / count
    return row.clamp(max=size - 1), weight
