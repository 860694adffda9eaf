"""The COCO numbers by faster-coco-eval (the C++ port of pycocotools), and COCO's two kinds of documents.

Boxes and scores are rounded as the service sends them, so that a model scores the same here, through a
service, and from a saved file of results.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

from models.datasets import AnnotatedImage
from models.detections import Detections

NUMBERS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
RECALLS = ("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large")
PIXEL_DECIMALS, SCORE_DECIMALS = 3, 6  # those of the service's responses

# Axes of the arrays that accumulate() leaves: IoU threshold, recall, class, size, number of detections.
_AT_50, _ALL_SIZES, _MOST = 0, 0, -1

Document = dict[str, Any]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The objects of one image: its size in px, boxes (N, 4) xyxy px, labels (N,) from 1.

    `crowd` (N,) marks objects that count neither if detected nor if missed: crowds, difficult objects.
    """

    width: int
    height: int
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, image: AnnotatedImage) -> "GroundTruth":
        """The objects of an image of a data set."""
        return cls(image.width, image.height, image.boxes, image.labels, image.crowd)

    @property
    def ignored(self) -> npt.NDArray[np.bool_]:
        """`crowd`, all False if there is none."""
        return np.zeros(len(self.labels), np.bool_) if self.crowd is None else self.crowd


@dataclass(frozen=True)
class ClassScore:
    """One class: AP over IoU .50:.95, AP50, AR_100; -1 where there are no objects.

    `precision` is COCO's interpolated one at IoU 0.5, for recall 0, 0.01 … 1; AP50 is its mean.
    """

    AP: float
    AP50: float
    AR_100: float
    precision: tuple[float, ...]


@dataclass(frozen=True)
class Scores:
    """The 12 COCO numbers, and those of each class, by label id from 1."""

    numbers: dict[str, float]
    classes: tuple[ClassScore, ...]


def evaluate(
    truths: Sequence[GroundTruth], predictions: Iterable[Detections], labels: Sequence[str]
) -> dict[str, float]:
    """The 12 COCO numbers of `predictions` (one per truth, same order); -1 for a size without objects."""
    return score(truth_document(truths, labels), result_rows(predictions)).numbers


def score(truth: Document, results: list[Document]) -> Scores:
    """Compare a COCO ground truth and COCO results, both as they are saved."""
    reference = COCO(truth)
    run = COCOeval_faster(reference, _loaded(reference, results), iouType="bbox", print_function=_silent)
    run.evaluate()
    run.accumulate()
    run.summarize()
    numbers = {name: float(value) for name, value in zip(NUMBERS + RECALLS, run.stats[:12], strict=True)}
    return Scores(numbers, tuple(_class_score(run, index) for index in range(len(run.params.catIds))))


def _loaded(reference: Any, results: list[Document]) -> Any:
    """The results in the evaluator's own form; its own loader fails on an empty list."""
    if results:
        return reference.loadRes(results)
    empty = COCO()
    empty.dataset = reference.dataset | {"annotations": []}
    empty.createIndex()
    return empty


def _class_score(run: Any, index: int) -> ClassScore:
    precision = run.eval["precision"][:, :, index, _ALL_SIZES, _MOST]
    recall = run.eval["recall"][:, index, _ALL_SIZES, _MOST]
    at_50 = precision[_AT_50]
    return ClassScore(
        float(precision.mean()), float(at_50.mean()), float(recall.mean()), tuple(at_50.tolist())
    )


def truth_document(
    truths: Sequence[GroundTruth], labels: Sequence[str], files: Sequence[str] | None = None
) -> Document:
    """The ground truth as COCO's instances JSON: image k+1 is truth k, category ids are label ids."""
    annotations = [
        {"id": 0, "image_id": image, **annotation}
        for image, truth in enumerate(truths, start=1)
        for annotation in _annotations(truth)
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number  # from 1: pycocotools takes a match with id 0 for none
    images: list[Document] = [
        {"id": k, "width": truth.width, "height": truth.height} for k, truth in enumerate(truths, start=1)
    ]
    for entry, file in zip(images, files or (), strict=files is not None):
        entry["file_name"] = file
    categories = [{"id": k, "name": name} for k, name in enumerate(labels) if k > 0]
    return {"info": {}, "images": images, "categories": categories, "annotations": annotations}


def _annotations(truth: GroundTruth) -> Iterable[Document]:
    rows = zip(truth.boxes.tolist(), truth.labels.tolist(), truth.ignored.tolist(), strict=True)
    for (x1, y1, x2, y2), label, ignored in rows:
        size = [x2 - x1, y2 - y1]
        yield {
            "category_id": label,
            "bbox": [x1, y1, *size],
            "area": size[0] * size[1],
            "iscrowd": int(ignored),
        }


def result_rows(predictions: Iterable[Detections]) -> list[Document]:
    """The predictions, one per image, as COCO's results JSON, with the ids of `truth_document`."""
    return [row for image, found in enumerate(predictions, start=1) for row in _results(image, found)]


def _results(image: int, detections: Detections) -> Iterable[Document]:
    boxes = detections.boxes.astype(np.float64).round(PIXEL_DECIMALS)
    boxes[:, 2:] = (boxes[:, 2:] - boxes[:, :2]).round(PIXEL_DECIMALS)
    scores = detections.scores.astype(np.float64).round(SCORE_DECIMALS)
    for box, label, value in zip(boxes.tolist(), detections.labels.tolist(), scores.tolist(), strict=True):
        yield {"image_id": image, "category_id": label, "bbox": box, "score": value}


def as_sent(detections: Detections) -> Detections:
    """The detections as a client of the service gets them: boxes to 0.001 px, scores to a millionth."""
    return Detections(
        detections.boxes.astype(np.float64).round(PIXEL_DECIMALS).astype(np.float32),
        detections.labels,
        detections.scores.astype(np.float64).round(SCORE_DECIMALS).astype(np.float32),
    )


def _silent(*_: object) -> None:
    pass
