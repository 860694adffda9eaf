"""NMS and RoIAlign as Triton kernels, for a GPU where Triton can compile; `models.ops.kernels` chooses.

Both give the results of `models.ops.fixed_nms` and `models.ops.pyramid_pool`: NMS to the last bit, if the
compiler may not fuse a product into a sum, RoIAlign but for the order of its sums, which are float32.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.errors import TritonError

from models.ops.fixed_nms import Ranked
from models.ops.roi_align import RoIAlignConfig, level_of_each, pooled_levels

CompileError = TritonError
BLOCK = 64  # boxes that are compared with each other at once: more would not fit into registers


def nms(ranked: Ranked, threshold: float | Tensor, iterations: int = 0) -> tuple[Tensor, Tensor]:
    """As `fixed_nms`, and always exact: both states are the same. A thread block for each group."""
    groups, count, _ = ranked.boxes.shape
    states = ranked.boxes.new_empty(groups, count)
    areas = ranked.sizes.prod(-1)
    limits = torch.zeros_like(areas[:, 0]) + (
        threshold.view(-1) if isinstance(threshold, Tensor) else threshold
    )
    _nms_of_group[(groups,)](
        ranked.boxes.contiguous(),
        areas,
        areas if ranked.kinds is None else ranked.kinds.to(torch.float32).contiguous(),
        ranked.valid.to(torch.uint8),
        limits,
        states,
        count,
        BLOCKS=triton.next_power_of_2(-(-count // BLOCK)),
        SIZE=BLOCK,
        HAS_KINDS=ranked.kinds is not None,
        enable_fp_fusion=False,
        num_warps=8,
    )
    return states, states


def pool(
    features: Sequence[Tensor],
    boxes: Tensor,
    images: Tensor,
    canvas: tuple[int, int],
    config: RoIAlignConfig,
) -> Tensor:
    """As `pool_pyramid` for RoIAlign, in the features' type, which must have the channels last."""
    levels, scales = pooled_levels(features, canvas, config)
    side, channels = config.output_size, levels[0].shape[1]
    pooled = levels[0].new_empty(len(boxes), side, side, channels)
    chosen = level_of_each(boxes[:, 2:] - boxes[:, :2], scales, config).to(torch.int32)
    # A copy, which a recording holds: it does not see what only a kernel reads.
    boxes, images = boxes.contiguous(), images.to(torch.int32)
    for number, (level, scale) in enumerate(zip(levels, scales, strict=True)):
        _pool_from_level[(len(boxes), side)](
            level.permute(0, 2, 3, 1).contiguous(),
            boxes,
            images,
            chosen,
            pooled,
            number,
            scale,
            *level.shape[2:],
            CHANNELS=channels,
            SIDE=side,
            SAMPLES=config.sampling_ratio,
            WIDTH=triton.next_power_of_2(channels),
        )
    return pooled.permute(0, 3, 1, 2)


@triton.jit
def _pairs(values, first, second, stride: tl.constexpr, offset: tl.constexpr, count):
    """A number of each of the first boxes as a column, and of each of the second as a row."""
    ones = tl.load(values + first * stride + offset, first < count, 0.0)
    others = tl.load(values + second * stride + offset, second < count, 0.0)
    return ones[:, None], others[None, :]


@triton.jit
def _suppresses(boxes, areas, kinds, first, second, count, threshold, HAS_KINDS: tl.constexpr):
    """(first, second): whether a kept box of the first suppresses a later one of the second."""
    x0, other_x0 = _pairs(boxes, first, second, 4, 0, count)
    y0, other_y0 = _pairs(boxes, first, second, 4, 1, count)
    x1, other_x1 = _pairs(boxes, first, second, 4, 2, count)
    y1, other_y1 = _pairs(boxes, first, second, 4, 3, count)
    area, other_area = _pairs(areas, first, second, 1, 0, count)
    across = tl.maximum(tl.minimum(x1, other_x1) - tl.maximum(x0, other_x0), 0.0)
    down = tl.maximum(tl.minimum(y1, other_y1) - tl.maximum(y0, other_y0), 0.0)
    shared = across * down
    over = tl.div_rn(shared, (area + other_area) - shared) > threshold
    if HAS_KINDS:
        kind, other_kind = _pairs(kinds, first, second, 1, 0, count)
        over = over & (kind == other_kind)
    return (over & (first[:, None] < second[None, :])).to(tl.int32)


@triton.jit
def _nms_of_group(
    boxes,
    areas,
    kinds,
    valid,
    limits,
    states,
    count,
    BLOCKS: tl.constexpr,
    SIZE: tl.constexpr,
    HAS_KINDS: tl.constexpr,
):
    """Block by block: what earlier blocks suppress, then the boxes of the block among each other.

    Within a block all boxes are decided again until nothing changes: as often as the longest chain of
    decisions, which is short.
    """
    start = tl.program_id(0).to(tl.int64) * count
    boxes, areas, kinds, valid = boxes + start * 4, areas + start, kinds + start, valid + start
    threshold = tl.load(limits + tl.program_id(0))
    number, place = tl.arange(0, BLOCKS)[:, None], tl.arange(0, SIZE)
    kept = tl.zeros((BLOCKS, SIZE), tl.int32)
    for block in range(tl.cdiv(count, SIZE)):
        mine = block * SIZE + place
        alive = tl.load(valid + mine, mine < count, 0).to(tl.int32)
        for earlier in range(block):
            theirs = earlier * SIZE + place
            over = _suppresses(boxes, areas, kinds, theirs, mine, count, threshold, HAS_KINDS)
            of_theirs = tl.sum(tl.where(number == earlier, kept, 0), axis=0)
            alive = alive & (1 - tl.max(over * of_theirs[:, None], axis=0))
        over = _suppresses(boxes, areas, kinds, mine, mine, count, threshold, HAS_KINDS)
        decided = alive
        changes = 1
        while changes > 0:
            again = alive & (1 - tl.max(over * decided[:, None], axis=0))
            changes = tl.sum(tl.abs(again - decided), axis=0)
            decided = again
        kept = tl.where(number == block, decided[None, :], kept)
        tl.store(states + start + mine, 1.5 - decided, mine < count)  # KEPT is 0.5, SUPPRESSED 1.5


@triton.jit
def _taps(start, extent, sample, samples: tl.constexpr, size):
    """A sample's two positions along an axis, the weight of the second, and whether it is on the map."""
    place = start + extent * ((sample + 0.5) / samples)
    low = tl.minimum(tl.floor(place).to(tl.int32), size - 1)
    return low, tl.minimum(low + 1, size - 1), place - tl.floor(place), place <= size


@triton.jit
def _between(first, last, inside, after):
    """Interpolated along a row, for all channels."""
    before = tl.load(first, inside, 0.0).to(tl.float32)
    return before * (1.0 - after) + tl.load(last, inside, 0.0).to(tl.float32) * after


@triton.jit
def _pool_from_level(
    rows,
    boxes,
    images,
    chosen,
    pooled,
    number,
    scale,
    height,
    width,
    CHANNELS: tl.constexpr,
    SIDE: tl.constexpr,
    SAMPLES: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """A row of bins of one box, if this is its level: the mean of bilinear samples, all channels at once."""
    roi, bin_row = tl.program_id(0), tl.program_id(1)
    if tl.load(chosen + roi) == number:
        x0, y0 = tl.load(boxes + roi * 4), tl.load(boxes + roi * 4 + 1)
        across = tl.maximum((tl.load(boxes + roi * 4 + 2) - x0) * scale, 1.0)
        down = tl.maximum((tl.load(boxes + roi * 4 + 3) - y0) * scale, 1.0)
        channel = tl.arange(0, WIDTH)
        inside = channel < CHANNELS
        image = rows + tl.load(images + roi).to(tl.int64) * height * width * CHANNELS
        place = pooled + (roi.to(tl.int64) * SIDE + bin_row) * SIDE * CHANNELS
        for bin_column in range(SIDE):
            total = tl.zeros((WIDTH,), tl.float32)
            for i in tl.static_range(SAMPLES):
                y = bin_row * SAMPLES + i
                top, bottom, lower, in_rows = _taps(y0 * scale, down, y, SIDE * SAMPLES, height)
                for j in tl.static_range(SAMPLES):
                    x = bin_column * SAMPLES + j
                    left, right, after, in_columns = _taps(x0 * scale, across, x, SIDE * SAMPLES, width)
                    share = tl.where(in_rows & in_columns, 1.0 / (SAMPLES * SAMPLES), 0.0)
                    first, last = image + left * CHANNELS + channel, image + right * CHANNELS + channel
                    row, next_row = top * width * CHANNELS, bottom * width * CHANNELS
                    upper = _between(first + row, last + row, inside, after)
                    under = _between(first + next_row, last + next_row, inside, after)
                    total += (upper * (1.0 - lower) + under * lower) * share
            tl.store(place + bin_column * CHANNELS + channel, total.to(pooled.dtype.element_ty), inside)
