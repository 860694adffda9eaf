"""VOC's mAP, as the challenge's development kit scores it (VOCevaldet.m), for `rcnn evaluate --measure voc`.

IoU counts the last pixel of a box. A detection belongs to the object with the highest IoU, from 0.5 on, best
score first: on a difficult object it does not count, on one that was found before it is wrong. It is our own,
as the packages that score VOC leave difficult objects out or are no longer kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.detections import Detections
from models.evaluation.coco import GroundTruth
from models.evaluation.curves import overlaps

LEAST_IOU = 0.5
RECALLS_2007 = np.linspace(0, 1, 11)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class VocClass:
    """The AP of one class: over all points (VOC from 2010 on) and over 11 (VOC2007); -1 without objects."""

    name: str
    objects: int
    AP: float
    AP_11_points: float


@dataclass(frozen=True)
class VocScores:
    """The classes, and the means over those with objects; -1 if there are none."""

    classes: tuple[VocClass, ...]

    @property
    def mAP(self) -> float:
        """The mean AP over all points, as from VOC2010 on."""
        return _mean([each.AP for each in self.classes if each.objects])

    @property
    def mAP_11_points(self) -> float:
        """The mean AP over 11 points, as in VOC2007."""
        return _mean([each.AP_11_points for each in self.classes if each.objects])

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        numbers = {"mAP": self.mAP, "mAP_11_points": self.mAP_11_points}
        return {**numbers, "iou": LEAST_IOU, "classes": [vars(each) for each in self.classes]}


def score_voc(
    truths: Sequence[GroundTruth], predictions: Sequence[Detections], labels: Sequence[str]
) -> VocScores:
    """VOC's scores of the predictions, one per truth; labels: names by id, the background first."""
    return VocScores(
        tuple(_score_class(truths, predictions, label, labels[label]) for label in range(1, len(labels)))
    )


def _score_class(
    truths: Sequence[GroundTruth], predictions: Sequence[Detections], label: int, name: str
) -> VocClass:
    objects = sum(int(np.count_nonzero((t.labels == label) & ~t.ignored)) for t in truths)
    if not objects:
        return VocClass(name, 0, -1.0, -1.0)
    each = [_judge(truth, found, label) for truth, found in zip(truths, predictions, strict=True)]
    scores, correct, counts = (np.concatenate(parts) for parts in zip(*each, strict=True))
    order = np.argsort(-scores[counts], kind="stable")
    found = np.cumsum(correct[counts][order])
    recall, precision = found / objects, found / np.arange(1, len(found) + 1)
    return VocClass(name, objects, all_points(recall, precision), eleven_points(recall, precision))


def _judge(truth: GroundTruth, detections: Detections, label: int) -> tuple[Floats, Bools, Bools]:
    """The scores of an image's detections, which of them are correct, and which count."""
    chosen, annotated = detections.labels == label, truth.labels == label
    scores, ignored = detections.scores[chosen].astype(np.float64), truth.ignored[annotated]
    last = np.array([0, 0, 1, 1], np.float32) * (not truth.counts_from_one)  # there the box includes it
    ious = overlaps(detections.boxes[chosen] + last, truth.boxes[annotated] + last)
    correct, counts = np.zeros(len(scores), np.bool_), np.ones(len(scores), np.bool_)
    found: set[int] = set()
    for row in np.argsort(-scores, kind="stable").tolist() if ious.shape[1] else ():
        best = int(ious[row].argmax())
        if ious[row, best] < LEAST_IOU:
            continue
        counts[row] = not ignored[best]
        correct[row] = counts[row] and best not in found
        found.add(best)
    return scores, correct, counts


def all_points(recall: Floats, precision: Floats) -> float:
    """The area under the curve of the highest precision at this recall or a higher one."""
    steps = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([precision, [0.0]])[::-1])[::-1]
    return float(np.sum(np.diff(steps) * envelope))


def eleven_points(recall: Floats, precision: Floats) -> float:
    """The mean of the highest precision at a recall of at least 0, 0.1 … 1."""
    return _mean([float(precision[recall >= least].max(initial=0.0)) for least in RECALLS_2007])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else -1.0
