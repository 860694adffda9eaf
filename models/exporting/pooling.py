"""RoIAlign and RoIPool in the graph, over one map or a pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from models.exporting.graph import FLOAT, INT64, Op, Value, cast, floats, halves, ints, size_of
from models.exporting.proposals import ProposalValues
from models.ops.roi_align import RoIAlignConfig, level_areas

ALIGNED = {True: "half_pixel", False: "output_half_pixel"}


@dataclass(frozen=True, eq=False)
class PooledValues:
    """Pooled features (R, C, side, side) of the valid proposals, and the row (R,) of each among N * P."""

    features: Value
    rows: Value


def add_pooled(
    op: Op,
    features: Sequence[Value],
    proposals: ProposalValues,
    scales: Sequence[float],
    config: RoIAlignConfig,
) -> PooledValues:
    """Pool each proposal from its level; `scales` are the levels' positions a canvas pixel."""
    rows = _where(op, op.Reshape(proposals.valid, ints(-1)))
    boxes = op.Gather(op.Reshape(proposals.boxes, ints(-1, 4)), rows)
    if len(scales) == 1:
        return PooledValues(
            _pool(op, features[0], boxes, _images(op, rows, proposals), config, scales[0]), rows
        )
    chosen = _levels(op, boxes, scales, config)
    pooled, orders = [], []
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        of_level = _where(op, op.Equal(chosen, level))
        order = op.Gather(rows, of_level)
        images = _images(op, order, proposals)
        pooled.append(_pool(op, feature, op.Gather(boxes, of_level), images, config, scale))
        orders.append(order)
    return PooledValues(op.Concat(*pooled, axis=0), op.Concat(*orders, axis=0))


def _where(op: Op, flags: Value) -> Value:
    """The indices (n,) of what is true in (m,)."""
    return op.Squeeze(op.NonZero(flags), ints(0))


def _images(op: Op, rows: Value, proposals: ProposalValues) -> Value:
    return op.Div(rows, size_of(op, proposals.valid, 1))


def _levels(op: Op, boxes: Value, scales: Sequence[float], config: RoIAlignConfig) -> Value:
    """The level (R,) of each box, as `models.ops.roi_align.level_of_each`."""
    low, high = halves(op, boxes)
    areas = op.ReduceProd(op.Sub(high, low), ints(1))
    smallest = floats(*level_areas(tuple(scales), config, torch.device("cpu")).tolist())
    return op.ReduceSum(cast(op, op.GreaterOrEqual(areas, smallest), INT64), ints(1), keepdims=0)


def _pool(op: Op, feature: Value, boxes: Value, images: Value, config: RoIAlignConfig, scale: float) -> Value:
    """Pooled features (R, C, side, side) of boxes (R, 4), canvas px, of the images (R,)."""
    side = config.output_size
    boxes = op.Mul(boxes, floats(scale))
    if config.quantised:
        rois = op.Concat(op.Unsqueeze(cast(op, images, FLOAT), ints(1)), boxes, axis=1)
        return op.MaxRoiPool(feature, rois, pooled_shape=[side, side], spatial_scale=1.0)
    return op.RoiAlign(
        feature,
        boxes,
        images,
        output_height=side,
        output_width=side,
        sampling_ratio=config.sampling_ratio,
        spatial_scale=1.0,
        coordinate_transformation_mode=ALIGNED[config.aligned],
    )
