"""How good int8 is beside fp32: COCO's AP where there are annotations, else how far the answers agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from models.datasets import Dataset
from models.detections import Detections
from models.detector import Detector
from models.evaluation.answers import FLOOR, MOST_DETECTIONS
from models.evaluation.coco import GroundTruth, evaluate
from models.evaluation.labels import match_labels
from models.evaluation.local import ask_detector
from models.options import Options
from models.quantization.calibration import LIMITS
from models.zoo.quantized import Measure

SAME = 0.5  # IoU from which two boxes of one label are the same object


class Judge(Protocol):
    """Measures a detector; more is better."""

    @property
    def measure(self) -> Measure: ...

    @property
    def images(self) -> int: ...

    def __call__(self, detector: Detector) -> float: ...


@dataclass(frozen=True, eq=False)
class PrecisionJudge:
    """COCO's AP on annotated images; classes are matched by name."""

    data: Dataset
    measure: Measure = "AP"

    @property
    def images(self) -> int:
        """How many it looks at."""
        return len(self.data.images)

    def __call__(self, detector: Detector) -> float:
        """AP of the detector, 0 to 1."""
        match = match_labels(self.data.labels, detector.card.labels)
        if not match.known:
            raise ValueError(f"{detector.card.name} knows no class of the data; take the model's own data")
        options = Options(FLOOR, detector.card.nms_threshold, MOST_DETECTIONS, match.known)
        found = answers_of(detector, [image.path for image in self.data.images], options)
        truths = [GroundTruth(i.width, i.height, i.boxes, i.labels, i.crowd) for i in self.data.images]
        return evaluate(truths, [match.translate(answer) for answer in found], self.data.labels)["AP"]


class AgreementJudge:
    """Share of detections that have a twin in the first detector's answers, or there, in the one's asked.

    At the card's thresholds; twins have one label and an IoU of 0.5 or more, and each is used once, better
    scores first. 2 * twins / (detections of both), over all images; 1 where neither finds anything.
    """

    measure: Measure = "agreement"

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._first: list[Detections] | None = None

    @property
    def images(self) -> int:
        """How many it looks at."""
        return len(self._files)

    def __call__(self, detector: Detector) -> float:
        """Agreement with the detector that was measured first, 0 to 1."""
        card = detector.card
        options = Options(card.score_threshold, card.nms_threshold, card.max_detections)
        found = answers_of(detector, self._files, options)
        self._first = self._first or found
        twins = sum(count_twins(one, other) for one, other in zip(self._first, found, strict=True))
        detections = sum(map(len, self._first)) + sum(map(len, found))
        return 2 * twins / detections if detections else 1.0


def answers_of(detector: Detector, files: Sequence[Path], options: Options) -> list[Detections]:
    """The detections in each file, empty where it cannot be read."""
    found = [Detections.empty()] * len(files)
    for answer in ask_detector(detector, files, options, LIMITS, batch=1):
        found[answer.index] = answer.detections
    return found


def count_twins(one: Detections, other: Detections) -> int:
    """How many detections of one have a twin of their own in the other."""
    free = np.ones(len(other), bool)
    for box, label in zip(one.boxes, one.labels, strict=True):
        overlap = np.where(free & (other.labels == label), _overlaps(box, other.boxes), 0.0)
        if len(overlap) and overlap.max() >= SAME:
            free[int(overlap.argmax())] = False
    return int((~free).sum())


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of a box (4,) with each of boxes (N, 4)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = (high - low).clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    overlaps: np.ndarray = both / np.maximum(areas - both, 1e-9)
    return overlaps
