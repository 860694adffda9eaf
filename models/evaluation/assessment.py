"""All results of `rcnn evaluate` for a model on a data set, as one value."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.detections import Detections
from models.evaluation.coco import GroundTruth, Scores, result_rows, score, truth_document
from models.evaluation.coco_ids import Document
from models.evaluation.curves import MATCHING_IOU, Curve, confuse, trace_curve

SIZES = {
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, float("inf")),
}  # px²: of the annotation, else of the box


@dataclass(frozen=True, eq=False)
class ClassReport:
    """One class. AP, AP50, AR_100: COCO's, -1 without objects; precision, recall, f1: at the threshold.

    best_f1 is the highest F1 of any threshold, best_threshold that threshold. detections: from the floor on.
    """

    name: str
    objects: int
    objects_by_size: dict[str, int]
    detections: int
    AP: float
    AP50: float
    AR_100: float
    numbers: dict[str, float]  # the 12 COCO numbers of the class
    precision: float
    recall: float
    f1: float
    best_threshold: float
    best_f1: float
    curve: Curve
    precision_at_recall: tuple[float, ...]  # COCO's, at IoU 0.5 and recall 0, 0.01 … 1

    def to_dict(self) -> dict[str, Any]:
        """As plain values; the curve is given as COCO's interpolated precision."""
        plain = {key: value for key, value in vars(self).items() if key != "curve"}
        return plain | {"precision_at_recall": list(self.precision_at_recall)}


@dataclass(frozen=True)
class Counts:
    """Counts; `objects` is without the ignored ones (crowd, difficult), sizes are by annotated area."""

    images: int
    empty_images: int
    objects: int
    ignored: int
    detections: int
    objects_by_size: dict[str, int]


@dataclass(frozen=True, eq=False)
class Assessment:
    """The 12 COCO numbers; counts; each class; and confusion[object class, detected class] from `threshold`.

    labels[0], the background, stands in the matrix for "no object" (row) and "not detected" (column).
    truth and results are the two COCO documents that the numbers were computed from.
    """

    labels: tuple[str, ...]
    threshold: float
    numbers: dict[str, float]
    counts: Counts
    classes: tuple[ClassReport, ...]
    confusion: npt.NDArray[np.int64]
    truth: Document
    results: list[Document]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, without the documents."""
        return {
            "numbers": self.numbers,
            "counts": asdict(self.counts),
            "classes": [report.to_dict() for report in self.classes],
            "confusion": {
                "iou": MATCHING_IOU,
                "score_threshold": self.threshold,
                "labels": list(self.labels),
                "rows": "objects; background: detections of nothing",
                "columns": "detections; background: objects not detected",
                "matrix": self.confusion.tolist(),
            },
        }


def assess(
    truths: Sequence[GroundTruth],
    predictions: Sequence[Detections],
    labels: Sequence[str],
    threshold: float,
    files: Sequence[str] | None = None,
) -> Assessment:
    """Compare the predictions, one per truth, with the truths; `threshold`: the card's score threshold."""
    truth, results = truth_document(truths, labels, files), result_rows(predictions)
    scores = score(truth, results)
    curves = [trace_curve(truths, predictions, label) for label in range(1, len(labels))]
    return Assessment(
        labels=tuple(labels),
        threshold=threshold,
        numbers=scores.numbers,
        counts=_count(truths, predictions),
        classes=_classes(labels, scores, curves, truths, threshold),
        confusion=confuse(truths, predictions, len(labels), threshold),
        truth=truth,
        results=results,
    )


def _classes(
    labels: Sequence[str],
    scores: Scores,
    curves: Sequence[Curve],
    truths: Sequence[GroundTruth],
    threshold: float,
) -> tuple[ClassReport, ...]:
    reports = []
    for label, (coco, curve) in enumerate(zip(scores.classes, curves, strict=True), start=1):
        precision, recall = curve.at(threshold)
        best_threshold, best_f1 = curve.best()
        report = ClassReport(
            name=labels[label],
            objects=curve.objects,
            objects_by_size=_by_size(_areas(truths, label)),
            detections=len(curve.scores),
            AP=coco.AP,
            AP50=coco.AP50,
            AR_100=coco.AR_100,
            numbers=coco.numbers,
            precision=precision,
            recall=recall,
            f1=2 * precision * recall / (precision + recall) if recall else 0.0,
            best_threshold=round(best_threshold, 6),
            best_f1=best_f1,
            curve=curve,
            precision_at_recall=coco.precision,
        )
        reports.append(report)
    return tuple(reports)


def _count(truths: Sequence[GroundTruth], predictions: Sequence[Detections]) -> Counts:
    areas = _areas(truths)
    return Counts(
        images=len(truths),
        empty_images=sum(len(truth.labels) == 0 for truth in truths),
        objects=len(areas),
        ignored=sum(int(np.count_nonzero(truth.ignored)) for truth in truths),
        detections=sum(map(len, predictions)),
        objects_by_size=_by_size(areas),
    )


def _areas(truths: Sequence[GroundTruth], label: int | None = None) -> npt.NDArray[np.float64]:
    """The areas of the objects that count; `label`: only of this class."""
    chosen = (
        truth.sizes[~truth.ignored & ((truth.labels == label) if label else np.True_)] for truth in truths
    )
    return np.concatenate([np.zeros(0), *chosen])


def _by_size(areas: npt.NDArray[np.float64]) -> dict[str, int]:
    return {
        name: int(np.count_nonzero((areas >= least) & (areas < most)))
        for name, (least, most) in SIZES.items()
    }
