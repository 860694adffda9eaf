"""COCO AP: known answers, and the same numbers as pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from models.detections import Detections
from models.evaluation.coco import NUMBERS, RECALLS, GroundTruth, evaluate
from models.evaluation.coco import _results as results_of
from models.evaluation.coco import _truth as truth_of

LABELS = ("background", "cat", "dog")


def random_truths(count: int) -> list[GroundTruth]:
    rng = np.random.default_rng(1)
    truths = []
    for _ in range(count):
        start = rng.uniform(0, 200, (4, 2))
        boxes = np.concatenate([start, start + rng.uniform(10, 150, (4, 2))], 1).astype(np.float32)
        truths.append(GroundTruth(400, 400, boxes, rng.integers(1, 3, 4)))
    return truths


def noisy_answers(truths: list[GroundTruth]) -> list[Detections]:
    """Right boxes moved a little, some with the wrong label, some invented."""
    rng = np.random.default_rng(2)
    answers = []
    for truth in truths:
        boxes = np.concatenate([truth.boxes + rng.normal(0, 6, truth.boxes.shape), truth.boxes[:1] + 90])
        labels = np.where(rng.random(5) < 0.8, np.append(truth.labels, 1), 2)
        scores = -np.sort(-rng.random(5))
        answers.append(
            Detections(boxes.astype(np.float32), labels.astype(np.int64), scores.astype(np.float32))
        )
    return answers


def as_answers(truths: list[GroundTruth]) -> list[Detections]:
    return [
        Detections(t.boxes, t.labels, np.linspace(1, 0.5, len(t.labels), dtype=np.float32)) for t in truths
    ]


def test_perfect_answers_score_one() -> None:
    truths = random_truths(5)
    numbers = evaluate(truths, as_answers(truths), LABELS)
    assert numbers["AP"] == numbers["AP50"] == numbers["AR_100"] == pytest.approx(1.0)


def test_no_answers_score_zero() -> None:
    truths = random_truths(3)
    assert evaluate(truths, [Detections.empty()] * 3, LABELS) == dict.fromkeys(NUMBERS + RECALLS, 0.0)


def test_numbers_equal_pycocotools() -> None:
    truths = random_truths(30)
    answers = noisy_answers(truths)
    ours = evaluate(truths, answers, LABELS)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth_of(truths, LABELS)
        reference.createIndex()
        rows = [row for image, answer in enumerate(answers, start=1) for row in results_of(image, answer)]
        run = COCOeval(reference, reference.loadRes(rows), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    assert list(ours.values()) == pytest.approx(run.stats.tolist(), abs=1e-6)
    assert 0.1 < ours["AP"] < 0.9, "neither trivial nor perfect, or the comparison says little"
