"""Proposals in the graph: as `models.pipeline.proposals` with as many rows for each image."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.exporting.boxes import add_anchors, add_clipped, add_decoded, shortest_sides
from models.exporting.canvas import CanvasValues
from models.exporting.graph import (
    EXCLUDED,
    LOWEST,
    Op,
    Value,
    best,
    floats,
    ints,
    rows_of,
    shaped,
    size_of,
    suppressed,
)
from models.pipeline.proposals import ProposalConfig


@dataclass(frozen=True, eq=False)
class ProposalValues:
    """Boxes (N, P, 4) xyxy canvas px of each image, best first; those that are `valid` (N, P)."""

    boxes: Value
    valid: Value


Levels = Sequence[Value]


def add_proposals(
    op: Op, objectness: Levels, deltas: Levels, canvas: CanvasValues, config: ProposalConfig
) -> ProposalValues:
    """The best boxes of each level that are large enough and survive NMS within it, then of all levels."""
    boxes, ranks = [], []
    for level, (logits, rows) in enumerate(zip(objectness, deltas, strict=True)):
        anchors = add_anchors(op, config.anchors, level, canvas.size, logits)
        of_level = _ranked(op, _flat(op, logits, rows), anchors, canvas, config)
        boxes.append(of_level[0])
        ranks.append(of_level[1])
    values, index = best(op, op.Concat(*ranks, axis=1), config.post_nms)
    return ProposalValues(rows_of(op, op.Concat(*boxes, axis=1), index), op.Greater(values, floats(LOWEST)))


def _flat(op: Op, objectness: Value, deltas: Value) -> tuple[Value, Value]:
    """A level's logits (N, A) and deltas (N, A, 4) in the order of its anchors."""
    logits = op.Reshape(op.Transpose(objectness, perm=[0, 2, 3, 1]), ints(0, -1))
    split = shaped(op, deltas, 0, size_of(op, objectness, 1), 4, -1)
    return logits, op.Reshape(op.Transpose(split, perm=[0, 3, 1, 2]), ints(0, -1, 4))


def _ranked(
    op: Op, flat: tuple[Value, Value], anchors: Value, canvas: CanvasValues, config: ProposalConfig
) -> tuple[Value, Value]:
    """Boxes (N, n, 4) of a level and their ranks (N, n): EXCLUDED where they are no proposal."""
    logits, deltas = flat
    _, index = best(op, op.Sigmoid(logits) if config.rank_by == "scores" else logits, config.pre_nms)
    references = op.Gather(anchors, index)
    boxes = add_decoded(op, rows_of(op, deltas, index), references, config.coder)
    boxes = add_clipped(op, boxes, canvas.content)
    chosen = op.GatherElements(logits, index, axis=1)
    scores = op.Sigmoid(chosen)
    large = op.GreaterOrEqual(shortest_sides(op, boxes), floats(config.min_size))
    valid = op.And(large, op.GreaterOrEqual(scores, floats(config.score_threshold)))
    ranks = op.Where(valid, chosen if config.rank_by == "logits" else scores, floats(EXCLUDED))
    kept = suppressed(op, boxes, ranks, config.nms_threshold, config.post_nms)
    return boxes, op.Where(kept, ranks, floats(EXCLUDED))
