"""The last part of the graph: the head's output to boxes, labels and scores, padded with zeros."""

from dataclasses import dataclass

import numpy as np
from onnxscript import ir
from torchvision.models.detection._utils import BoxCoder

from models.exporting.boxes import Detected, Voters, add_clipped, add_decoded, add_voted, shortest_sides
from models.exporting.canvas import CanvasValues
from models.exporting.graph import (
    EXCLUDED,
    FLOAT,
    INT64,
    LOWEST,
    Op,
    Value,
    best,
    cast,
    floats,
    ints,
    rows_of,
    shaped,
    size_of,
    suppressed,
)
from models.exporting.proposals import ProposalValues
from models.options import Options
from models.pipeline.rows import SMALLEST_DETECTION
from models.zoo.sections import EmptyBoxes


@dataclass(frozen=True, eq=False)
class HeadValues:
    """Logits (R, K) and deltas (R, 4K) of the proposals of these rows (R,) among N * P."""

    logits: Value
    deltas: Value
    rows: Value
    classes: int


@dataclass(frozen=True)
class DetectionConfig:
    """How boxes are decoded, and which are kept."""

    coder: BoxCoder
    options: Options
    empty_boxes: EmptyBoxes
    voting_iou: float | None = None

    @property
    def smallest(self) -> float:
        """The shortest side of boxes that take part, canvas px."""
        return SMALLEST_DETECTION if self.empty_boxes == "drop_first" else 0.0


def add_detections(
    op: Op, head: HeadValues, proposals: ProposalValues, canvas: CanvasValues, config: DetectionConfig
) -> tuple[Value, Value, Value]:
    """Boxes (N, D, 4) xyxy image px, labels (N, D), scores (N, D): each image's best, then zeros."""
    classes = head.classes - 1  # without the background
    boxes, scores = _candidates(op, head, proposals, canvas, config.coder)
    ranks = _kept(op, boxes, scores, config)
    ranks, index = best(op, shaped(op, ranks, 0, -1), config.options.max_detections)
    candidates = op.Reshape(boxes, ints(0, -1, 4))
    boxes = rows_of(op, candidates, index)
    if config.voting_iou is not None:
        large = op.GreaterOrEqual(shortest_sides(op, candidates), floats(config.smallest))
        scores = op.Where(large, shaped(op, scores, 0, -1), floats(0.0))
        boxes = add_voted(op, Detected(boxes, index), Voters(candidates, scores, classes), config.voting_iou)
    if config.empty_boxes == "drop_last":
        filled = op.Greater(shortest_sides(op, boxes), floats(0.0))
        ranks, order = best(op, op.Where(filled, ranks, floats(EXCLUDED)), config.options.max_detections)
        boxes, index = rows_of(op, boxes, order), op.GatherElements(index, order, axis=1)
    valid, (boxes, index, ranks) = _shortest(op, ranks, boxes, index)
    labels = op.Add(op.Mod(index, ints(classes)), ints(1))
    boxes = op.Mul(boxes, _ratio(op, canvas))
    return (
        op.Where(op.Unsqueeze(valid, ints(2)), boxes, floats(0.0)),
        op.Where(valid, labels, ints(0)),
        op.Where(valid, ranks, floats(0.0)),
    )


def _candidates(
    op: Op, head: HeadValues, proposals: ProposalValues, canvas: CanvasValues, coder: BoxCoder
) -> tuple[Value, Value]:
    """Boxes (N, P, K - 1, 4) canvas px and scores (N, P, K - 1) of every proposal and class."""
    scores = _spread(op, op.Softmax(head.logits, axis=-1), head, proposals, head.classes)
    deltas = _spread(op, head.deltas, head, proposals, 4 * head.classes)
    scores = op.Slice(scores, ints(1), ints(head.classes), ints(2))
    deltas = op.Slice(deltas, ints(4), ints(4 * head.classes), ints(2))
    deltas = op.Reshape(deltas, ints(0, 0, head.classes - 1, 4))
    boxes = add_decoded(op, deltas, op.Unsqueeze(proposals.boxes, ints(2)), coder)
    return add_clipped(op, boxes, canvas.content), scores


def _spread(op: Op, values: Value, head: HeadValues, proposals: ProposalValues, width: int) -> Value:
    """Values (R, width) of the valid proposals at the places of all (N, P, width); 0 for the others."""
    count = op.Shape(op.Reshape(proposals.valid, ints(-1)))
    zero = ir.tensor(np.zeros(1, np.float32))
    empty = op.ConstantOfShape(op.Concat(count, ints(width), axis=0), value=zero)
    full = op.ScatterND(empty, op.Unsqueeze(head.rows, ints(1)), values)
    return op.Reshape(full, op.Concat(op.Shape(proposals.valid), ints(width), axis=0))


def _kept(op: Op, boxes: Value, scores: Value, config: DetectionConfig) -> Value:
    """The scores (N, P, K - 1) of what survives NMS within its class; EXCLUDED for the rest."""
    above = op.Greater(scores, floats(config.options.score_threshold))
    valid = op.And(above, op.GreaterOrEqual(shortest_sides(op, boxes), floats(config.smallest)))
    ranks = op.Transpose(op.Where(valid, scores, floats(EXCLUDED)), perm=[0, 2, 1])
    count = size_of(op, ranks, 2)
    groups = shaped(op, op.Transpose(boxes, perm=[0, 2, 1, 3]), -1, count, 4)
    kept = suppressed(
        op,
        groups,
        shaped(op, ranks, -1, count),
        config.options.nms_threshold,
        config.options.max_detections,
    )
    kept = op.Reshape(kept, op.Shape(ranks))
    return op.Transpose(op.Where(kept, ranks, floats(EXCLUDED)), perm=[0, 2, 1])


def _shortest(op: Op, ranks: Value, boxes: Value, index: Value) -> tuple[Value, tuple[Value, Value, Value]]:
    """What is valid (N, D), and boxes, index and ranks, cut to the most detections of an image."""
    valid = op.Greater(ranks, floats(LOWEST))
    counts = op.ReduceSum(cast(op, valid, INT64), ints(1), keepdims=0)
    most = op.ReduceMax(counts, ints(0), keepdims=1)

    def cut(values: Value) -> Value:
        return op.Slice(values, ints(0), most, ints(1))

    return cut(valid), (cut(boxes), cut(index), cut(ranks))


def _ratio(op: Op, canvas: CanvasValues) -> Value:
    """Image pixels a canvas pixel (4,): x, y, x, y."""
    ratio = op.Div(cast(op, canvas.image_size, FLOAT), cast(op, canvas.content, FLOAT))
    return op.Gather(ratio, ints(1, 0, 1, 0))
