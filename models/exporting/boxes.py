"""Boxes in the graph: decoding and clipping as `models.ops.box_coding`, anchors, `models.ops.voting`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator

from models.exporting.graph import FLOAT, Op, Value, cast, constant, floats, halves, ints, size_of
from models.ops.voting import VOTERS


def add_decoded(op: Op, deltas: Value, references: Value, coder: BoxCoder) -> Value:
    """Boxes (..., 4) xyxy from deltas (..., 4) to reference boxes (..., 4)."""
    weights = tuple(float(weight) for weight in coder.weights)
    if hasattr(coder, "limit"):  # it limits shrinking too
        lowest = [-math.inf, -math.inf, *(-coder.bbox_xform_clip * weight for weight in weights[2:])]
        deltas = op.Max(deltas, floats(*lowest))
    if any(weight != 1 for weight in weights):
        deltas = op.Div(deltas, floats(*weights))
    low, high = halves(op, references)
    sizes = op.Sub(high, low)
    centres = op.Add(low, op.Mul(sizes, floats(0.5)))
    shifts, growths = halves(op, deltas)
    shifted = op.Add(op.Mul(shifts, sizes), centres)
    extents = op.Mul(op.Exp(op.Min(growths, floats(coder.bbox_xform_clip))), sizes)
    half = op.Mul(extents, floats(0.5))
    return op.Concat(op.Sub(shifted, half), op.Add(shifted, half), axis=-1)


def add_clipped(op: Op, boxes: Value, size: Value) -> Value:
    """Boxes (..., 4) inside an image of `size` (2,), height and width."""
    limits = cast(op, op.Gather(size, ints(1, 0, 1, 0)), FLOAT)
    return op.Min(op.Max(boxes, floats(0.0)), limits)


def shortest_sides(op: Op, boxes: Value) -> Value:
    """The shorter side (...,) of boxes (..., 4)."""
    low, high = halves(op, boxes)
    return op.ReduceMin(op.Sub(high, low), ints(-1), keepdims=0)


def add_anchors(op: Op, anchors: AnchorGenerator, level: int, canvas: Value, objectness: Value) -> Value:
    """The anchors (A, 4) of a level, whose map is that of `objectness` (N, a, h, w), on a canvas (2,)."""
    own: Sequence[float] | None = getattr(anchors, "strides", None)  # torchvision's own has none
    grid = op.Shape(objectness, start=2, end=4)
    offset = floats(getattr(anchors, "offset", 0.0))
    steps = floats(own[level], own[level]) if own is not None else cast(op, op.Div(canvas, grid), FLOAT)
    shifts = None
    for axis, columns in enumerate((floats(0, 1, 0, 1), floats(1, 0, 1, 0))):  # y, then x
        numbers = op.Range(0, op.Squeeze(op.Gather(grid, ints(axis)), ints(0)), 1)
        places = op.Mul(op.Add(cast(op, numbers, FLOAT), offset), op.Gather(steps, ints(axis)))
        spread = op.Mul(op.Unsqueeze(places, ints(1, 2, 3) if axis == 0 else ints(0, 2, 3)), columns)
        shifts = spread if shifts is None else op.Add(shifts, spread)
    cell = constant(op, anchors.cell_anchors[level].float().numpy())
    return op.Reshape(op.Add(shifts, cell), ints(-1, 4))


@dataclass(frozen=True, eq=False)
class Detected:
    """Boxes (N, D, 4) and their places (N, D) among the candidates."""

    boxes: Value
    index: Value


@dataclass(frozen=True, eq=False)
class Voters:
    """The candidates: boxes (N, M, 4) and scores (N, M), the `classes` of a proposal one after the other."""

    boxes: Value
    scores: Value
    classes: int


def add_voted(op: Op, found: Detected, voters: Voters, overlap: float) -> Value:
    """The boxes (N, D, 4), averaged over the voters of their class with an IoU of at least `overlap`."""
    near = _near(op, op.Unsqueeze(found.boxes, ints(2)), op.Unsqueeze(voters.boxes, ints(1)), overlap)
    places = op.Range(0, op.Squeeze(size_of(op, voters.boxes, 1), ints(0)), 1)
    label = op.Mod(op.Unsqueeze(found.index, ints(2)), ints(voters.classes))
    counts = op.And(near, op.Equal(label, op.Mod(places, ints(voters.classes))))
    scores = op.Where(op.Greater(voters.scores, floats(VOTERS)), voters.scores, floats(0.0))
    weights = op.Where(counts, op.Unsqueeze(scores, ints(1)), floats(0.0))
    total = op.ReduceSum(weights, ints(2), keepdims=1)
    mean = op.Div(op.MatMul(weights, voters.boxes), op.Max(total, floats(VOTERS)))
    return op.Where(op.Greater(total, floats(0.0)), mean, found.boxes)


def _near(op: Op, boxes: Value, others: Value, overlap: float) -> Value:
    """Whether the IoU of boxes (N, D, 1, 4) and others (N, 1, M, 4) is at least `overlap`: (N, D, M)."""
    (low, high), (other_low, other_high) = halves(op, boxes), halves(op, others)
    sides = op.Max(op.Sub(op.Min(high, other_high), op.Max(low, other_low)), floats(0.0))
    common = _area(op, sides)
    areas = op.Add(_area(op, op.Sub(high, low)), _area(op, op.Sub(other_high, other_low)))
    return op.GreaterOrEqual(common, op.Mul(op.Sub(areas, common), floats(overlap)))


def _area(op: Op, sides: Value) -> Value:
    width, height = halves(op, sides)
    return op.Squeeze(op.Mul(width, height), ints(-1))
