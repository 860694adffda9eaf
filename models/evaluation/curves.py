"""Precision-recall curves and the confusion matrix, which AP does not show.

Matching is greedy at IoU 0.5, best score first; each object is matched once. Ignored as in COCO and VOC: a
detection with at least half of its area on a crowd, or an IoU of 0.5 with a difficult object.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.detections import Detections
from models.evaluation.coco import GroundTruth

MATCHING_IOU = 0.5

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Curve:
    """One class: score, precision and recall (M,) after each detection, best first; number of objects."""

    scores: Floats
    precision: Floats
    recall: Floats
    objects: int

    def at(self, threshold: float) -> tuple[float, float]:
        """Precision and recall of the detections that score at least `threshold`; 0 where there are none."""
        count = int(np.count_nonzero(self.scores >= np.float32(threshold)))
        return (float(self.precision[count - 1]), float(self.recall[count - 1])) if count else (0.0, 0.0)

    def best(self) -> tuple[float, float]:
        """The score threshold with the highest F1, and that F1; 0, 0 without a correct detection."""
        if not len(self.scores) or not self.recall[-1]:
            return 0.0, 0.0
        f1 = 2 * self.precision * self.recall / np.maximum(self.precision + self.recall, 1e-12)
        best = int(f1.argmax())
        return float(self.scores[best]), float(f1[best])


@dataclass(frozen=True, eq=False)
class _Outcomes:
    """The detections of one class in one image: scores, whether each is correct, whether it counts."""

    scores: Floats
    correct: Bools
    counts: Bools


def trace_curve(truths: Sequence[GroundTruth], predictions: Sequence[Detections], label: int) -> Curve:
    """Precision against recall of class `label` at IoU 0.5."""
    outcomes = [_match_class(truth, found, label) for truth, found in zip(truths, predictions, strict=True)]
    objects = sum(int(np.count_nonzero((t.labels == label) & ~t.ignored)) for t in truths)
    scores = np.concatenate([np.zeros(0), *(outcome.scores[outcome.counts] for outcome in outcomes)])
    correct = np.concatenate([np.zeros(0, np.bool_), *(each.correct[each.counts] for each in outcomes)])
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(correct[order])
    return Curve(scores[order], found / np.arange(1, len(found) + 1), found / max(objects, 1), objects)


def _match_class(truth: GroundTruth, detections: Detections, label: int) -> _Outcomes:
    detected, annotated = detections.labels == label, truth.labels == label
    boxes, objects = detections.boxes[detected], truth.boxes[annotated & ~truth.ignored]
    correct = match(overlaps(boxes, objects)) >= 0
    return _Outcomes(
        scores=detections.scores[detected].astype(np.float64),
        correct=correct,
        counts=correct | ~on_ignored(boxes, truth, annotated),
    )


def confuse(
    truths: Sequence[GroundTruth], predictions: Sequence[Detections], classes: int, threshold: float
) -> npt.NDArray[np.int64]:
    """Counts (classes, classes) of object class (row) by detected class (column), from score `threshold` on.

    Class 0 is the background: row 0 counts detections where no object is, column 0 objects not detected. A
    detection is matched with the object it overlaps most, of any class.
    """
    matrix = np.zeros((classes, classes), np.int64)
    for truth, found in zip(truths, predictions, strict=True):
        _count(truth, found, threshold, matrix)
    return matrix


def _count(
    truth: GroundTruth, detections: Detections, threshold: float, matrix: npt.NDArray[np.int64]
) -> None:
    kept = detections.scores >= np.float32(threshold)
    boxes, labels = detections.boxes[kept], detections.labels[kept]
    objects, classes = truth.boxes[~truth.ignored], truth.labels[~truth.ignored]
    matched = match(overlaps(boxes, objects))
    found = matched >= 0
    np.add.at(matrix, (classes[matched[found]], labels[found]), 1)
    unmatched = ~found & ~on_ignored(boxes, truth, truth.ignored)
    np.add.at(matrix[0], labels[unmatched], 1)
    missed = np.setdiff1d(np.arange(len(classes)), matched)
    np.add.at(matrix[:, 0], classes[missed], 1)


def match(ious: Floats) -> npt.NDArray[np.int64]:
    """The object of each detection (D,), -1 for none: row by row, the free object with the highest IoU."""
    matched = np.full(len(ious), -1, np.int64)
    if not ious.shape[1]:
        return matched
    free = ious.copy()
    for row in range(len(free)):
        best = int(free[row].argmax())
        if free[row, best] >= MATCHING_IOU:
            matched[row] = best
            free[:, best] = -1.0
    return matched


def on_ignored(boxes: npt.NDArray[np.float32], truth: GroundTruth, chosen: Bools) -> Bools:
    """Which boxes (D,) lie on a crowd or a difficult object among the `chosen` objects of `truth`."""
    difficult = overlaps(boxes, truth.boxes[chosen & truth.is_difficult])
    inside: Bools = difficult.max(axis=1, initial=0.0) >= MATCHING_IOU
    return inside | on_crowd(boxes, truth.boxes[chosen & truth.is_crowd])


def on_crowd(boxes: npt.NDArray[np.float32], crowds: npt.NDArray[np.float32]) -> Bools:
    """Which boxes (D,) have at least half of their own area on one crowd object."""
    if not len(crowds):
        return np.zeros(len(boxes), np.bool_)
    share = _intersections(boxes, crowds) / np.maximum(_areas(boxes)[:, None], 1e-9)
    inside: Bools = share.max(axis=1) >= MATCHING_IOU
    return inside


def overlaps(boxes: npt.NDArray[np.float32], objects: npt.NDArray[np.float32]) -> Floats:
    """IoU (D, N) of boxes (D, 4) and objects (N, 4), xyxy."""
    common = _intersections(boxes, objects)
    union = _areas(boxes)[:, None] + _areas(objects)[None, :] - common
    ious: Floats = common / np.maximum(union, 1e-9)
    return ious


def _intersections(boxes: npt.NDArray[np.float32], objects: npt.NDArray[np.float32]) -> Floats:
    a, b = boxes.astype(np.float64)[:, None], objects.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    areas: Floats = sides.clip(min=0).prod(axis=-1)
    return areas


def _areas(boxes: npt.NDArray[np.float32]) -> Floats:
    areas: Floats = (boxes[:, 2:].astype(np.float64) - boxes[:, :2]).prod(axis=1)
    return areas
