"""Ground truth and predictions of images, given by hand or drawn at random."""

import numpy as np

from models.detections import Detections
from models.evaluation.coco import GroundTruth

LABELS = ("background", "cat", "dog")
CAT, DOG = 1, 2


def random_truths(count: int, classes: int = 2, crowds: float = 0.0) -> list[GroundTruth]:
    rng = np.random.default_rng(1)
    truths = []
    for _ in range(count):
        start = rng.uniform(0, 200, (4, 2))
        boxes = np.concatenate([start, start + rng.uniform(10, 150, (4, 2))], 1).astype(np.float32)
        labels = rng.integers(1, classes + 1, 4)
        truths.append(GroundTruth(400, 400, boxes, labels, crowd=rng.random(4) < crowds))
    return truths


def noisy_predictions(truths: list[GroundTruth], classes: int = 2) -> list[Detections]:
    """Right boxes moved a little, some with the wrong label, some invented."""
    rng = np.random.default_rng(2)
    predictions = []
    for truth in truths:
        boxes = np.concatenate([truth.boxes + rng.normal(0, 6, truth.boxes.shape), truth.boxes[:1] + 90])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        wrong = rng.integers(1, classes + 1, 5)
        labels = np.where(rng.random(5) < 0.8, np.append(truth.labels, 1), wrong)
        scores = -np.sort(-rng.random(5))
        predictions.append(
            Detections(boxes.astype(np.float32), labels.astype(np.int64), scores.astype(np.float32))
        )
    return predictions


def truth(*objects: tuple[int, tuple[float, ...], bool]) -> GroundTruth:
    """Objects of an image as (label, box, crowd)."""
    return GroundTruth(
        200,
        200,
        np.array([box for _, box, _ in objects], np.float32).reshape(-1, 4),
        np.array([label for label, _, _ in objects], np.int64),
        crowd=np.array([crowd for _, _, crowd in objects], np.bool_),
    )


def detections_of(*detections: tuple[int, float, tuple[float, ...]]) -> Detections:
    """Detections as (label, score, box)."""
    return Detections(
        np.array([box for _, _, box in detections], np.float32).reshape(-1, 4),
        np.array([label for label, _, _ in detections], np.int64),
        np.array([value for _, value, _ in detections], np.float32),
    )
