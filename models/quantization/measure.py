"""Quality of int8 against fp32: COCO's AP on annotated images, else the agreement of the detections."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from models.datasets import Dataset
from models.detections import Detections
from models.detector import Detector
from models.evaluation.accuracy import measure_ap
from models.evaluation.curves import match, overlaps
from models.evaluation.local import detect_files
from models.options import Options
from models.quantization.calibration import LIMITS
from models.zoo.quantized import Measure


class QualityMeasure(Protocol):
    """Measures the quality of a detector; higher is better."""

    @property
    def measure(self) -> Measure: ...

    @property
    def images(self) -> int: ...

    def __call__(self, detector: Detector) -> float: ...


@dataclass(frozen=True, eq=False)
class PrecisionMeasure:
    """COCO's AP on annotated images; classes are matched by name."""

    data: Dataset
    measure: Measure = "AP"

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.data.images)

    def __call__(self, detector: Detector) -> float:
        """AP of the detector, 0 to 1."""
        return measure_ap(detector, self.data)


class AgreementMeasure:
    """The Dice coefficient of a detector's detections and those of the first detector measured.

    At the card's thresholds: 2 * matches / (detections of both), over all images; 1 without detections.
    """

    measure: Measure = "agreement"

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._first: list[Detections] | None = None

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self._files)

    def __call__(self, detector: Detector) -> float:
        """Agreement with the detector that was measured first, 0 to 1."""
        card = detector.card
        options = Options(card.score_threshold, card.nms_threshold, card.max_detections)
        found = detect_all(detector, self._files, options)
        self._first = self._first or found
        matches = sum(count_matches(one, other) for one, other in zip(self._first, found, strict=True))
        detections = sum(map(len, self._first)) + sum(map(len, found))
        return 2 * matches / detections if detections else 1.0


def detect_all(detector: Detector, files: Sequence[Path], options: Options) -> list[Detections]:
    """The detections in each file; empty for a file that cannot be read."""
    found = [Detections.empty()] * len(files)
    for result in detect_files(detector, files, options, LIMITS, batch=1):
        found[result.index] = result.detections
    return found


def count_matches(one: Detections, other: Detections) -> int:
    """Pairs of detections with one label and an IoU of 0.5 or more; each detection is in one pair."""
    ious = overlaps(one.boxes, other.boxes)
    same = one.labels[:, None] == other.labels[None]
    return int(np.count_nonzero(match(np.where(same, ious, 0.0)) >= 0))
