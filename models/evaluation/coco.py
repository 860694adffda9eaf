"""The twelve COCO numbers, computed by faster-coco-eval (the C++ port of pycocotools)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

from models.detections import Detections

NUMBERS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
RECALLS = ("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large")


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What is in one image: size in px, boxes (N, 4) xyxy px, labels (N,) from 1."""

    width: int
    height: int
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def evaluate(
    truths: Sequence[GroundTruth], answers: Iterable[Detections], labels: Sequence[str]
) -> dict[str, float]:
    """The 12 COCO numbers of `answers` (one per truth, same order); -1 where a size has no objects."""
    truth = COCO(_truth(truths, labels))
    results = [row for image, answer in enumerate(answers, start=1) for row in _results(image, answer)]
    if not results:
        return dict.fromkeys(NUMBERS + RECALLS, 0.0)
    run = COCOeval_faster(truth, truth.loadRes(results), iouType="bbox", print_function=_silent)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return {name: float(value) for name, value in zip(NUMBERS + RECALLS, run.stats[:12], strict=True)}


def _truth(truths: Sequence[GroundTruth], labels: Sequence[str]) -> dict[str, Any]:
    annotations = [
        _annotation(image, box, label)
        for image, truth in enumerate(truths, start=1)
        for box, label in zip(truth.boxes.tolist(), truth.labels.tolist(), strict=True)
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    return {
        "info": {},
        "images": [{"id": k, "width": t.width, "height": t.height} for k, t in enumerate(truths, start=1)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(labels) if k > 0],
        "annotations": annotations,
    }


def _annotation(image: int, box: list[float], label: int) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    size = [x2 - x1, y2 - y1]
    return {
        "image_id": image,
        "category_id": label,
        "bbox": [x1, y1, *size],
        "area": size[0] * size[1],
        "iscrowd": 0,
    }


def _results(image: int, answer: Detections) -> list[dict[str, Any]]:
    rows = zip(answer.boxes.tolist(), answer.labels.tolist(), answer.scores.tolist(), strict=True)
    return [
        {
            "image_id": image,
            "category_id": label,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for (x1, y1, x2, y2), label, score in rows
    ]


def _silent(*_: object) -> None:
    pass
