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
from models.evaluation.coco_ids import Document

NUMBERS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
RECALLS = ("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large")
PIXEL_DECIMALS, SCORE_DECIMALS = 3, 6  # those of the service's responses

# Axes of the arrays that accumulate() leaves: IoU threshold, recall, class, size, number of detections.
_AT_50, _AT_75, _ALL_SIZES, _SIZES, _MOST = 0, 5, 0, (1, 2, 3), -1

# pycocotools replaces an annotation's `ignore` by its `iscrowd`, which changes the IoU. It ignores an object
# with a larger area than 1e10 too, with the ordinary IoU.
IGNORED_AREA = 1e11


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The objects of one image: its size in px, boxes (N, 4) xyxy px, labels (N,) from 1.

    `difficult` and `crowd` (N,) mark objects that count neither if detected nor if missed. A detection is on
    a difficult object by its IoU, on a crowd by the share of its own area. `areas` (N,) px², NaN: the box's.
    `counts_from_one`: the boxes come from files that count pixels as VOC's own do.
    """

    width: int
    height: int
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    difficult: npt.NDArray[np.bool_] | None = None
    crowd: npt.NDArray[np.bool_] | None = None
    areas: npt.NDArray[np.float64] | None = None
    counts_from_one: bool = False

    @classmethod
    def of(cls, image: AnnotatedImage) -> "GroundTruth":
        """The objects of an image of a data set."""
        difficult = np.zeros(len(image.labels), np.bool_) if image.difficult is None else image.difficult
        crowd, areas = image.crowd & ~difficult, image.areas
        return cls(
            *(image.width, image.height, image.boxes, image.labels),
            *(difficult, crowd, areas, image.counts_from_one),
        )

    @property
    def ignored(self) -> npt.NDArray[np.bool_]:
        """The objects that do not count: `difficult` and `crowd`."""
        return self.is_difficult | self.is_crowd

    @property
    def is_difficult(self) -> npt.NDArray[np.bool_]:
        """`difficult`, all False if there is none."""
        return np.zeros(len(self.labels), np.bool_) if self.difficult is None else self.difficult

    @property
    def is_crowd(self) -> npt.NDArray[np.bool_]:
        """`crowd`, all False if there is none."""
        return np.zeros(len(self.labels), np.bool_) if self.crowd is None else self.crowd

    @property
    def sizes(self) -> npt.NDArray[np.float64]:
        """The area (N,) of each object: as annotated, else that of its box."""
        boxes = self.boxes.astype(np.float64)
        of_boxes: npt.NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        return of_boxes if self.areas is None else np.where(np.isnan(self.areas), of_boxes, self.areas)


@dataclass(frozen=True)
class ClassScore:
    """The 12 COCO numbers of one class; -1 where there are no objects.

    `precision` is COCO's interpolated one at IoU 0.5, for recall 0, 0.01 … 1; AP50 is its mean.
    """

    numbers: dict[str, float]
    precision: tuple[float, ...]

    @property
    def AP(self) -> float:
        """AP over IoU .50:.95."""
        return self.numbers["AP"]

    @property
    def AP50(self) -> float:
        """AP at IoU 0.5."""
        return self.numbers["AP50"]

    @property
    def AR_100(self) -> float:
        """Recall over IoU .50:.95 with at most 100 detections an image."""
        return self.numbers["AR_100"]


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
    precision, recall = run.eval["precision"][:, :, index], run.eval["recall"][:, index]
    at_50 = precision[_AT_50, :, _ALL_SIZES, _MOST]
    values = (
        precision[..., _ALL_SIZES, _MOST],
        at_50,
        precision[_AT_75, :, _ALL_SIZES, _MOST],
        *(precision[..., size, _MOST] for size in _SIZES),
        *(recall[..., _ALL_SIZES, most] for most in range(recall.shape[-1])),
        *(recall[..., size, _MOST] for size in _SIZES),
    )
    means = (float(value.mean()) for value in values)
    return ClassScore(dict(zip(NUMBERS + RECALLS, means, strict=True)), tuple(at_50.tolist()))


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
    objects = zip(truth.boxes.tolist(), truth.labels.tolist(), truth.sizes.tolist(), strict=True)
    flags = zip(truth.is_difficult.tolist(), truth.is_crowd.tolist(), strict=True)
    for ((x1, y1, x2, y2), label, area), (difficult, crowd) in zip(objects, flags, strict=True):
        yield {
            "category_id": label,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": IGNORED_AREA if difficult else area,
            "iscrowd": int(crowd),
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
