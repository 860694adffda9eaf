"""The COCO numbers are those of pycocotools."""

import contextlib
import io
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from models.detections import Detections
from models.evaluation.coco import NUMBERS, RECALLS, as_sent, evaluate, result_rows, score, truth_document
from tests.support.data.ground_truth import (
    CAT,
    LABELS,
    detections_of,
    noisy_predictions,
    random_truths,
    truth,
)


def pycocotools(document: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
    """The reference's evaluation, run."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = document
        reference.createIndex()
        run = COCOeval(reference, reference.loadRes(rows), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def test_no_predictions_score_zero() -> None:
    truths = random_truths(3)
    assert evaluate(truths, [Detections.empty()] * 3, LABELS) == dict.fromkeys(NUMBERS + RECALLS, 0.0)


def test_sizes_without_objects_have_no_number() -> None:
    numbers = evaluate([truth((CAT, (0, 0, 150, 150), False))], [Detections.empty()], LABELS)
    without = {"AP_small", "AP_medium", "AR_small", "AR_medium"}
    assert {name for name, value in numbers.items() if value == -1} == without
    assert set(evaluate([truth()], [Detections.empty()], LABELS).values()) == {-1.0}


@pytest.mark.parametrize("crowds", [0.0, 0.3], ids=["plain", "with crowds"])
def test_numbers_equal_pycocotools(crowds: float) -> None:
    truths = random_truths(30, crowds=crowds)
    predictions = noisy_predictions(truths)
    document, rows = truth_document(truths, LABELS), result_rows(predictions)
    scores = score(document, rows)
    run = pycocotools(document, rows)
    assert list(scores.numbers.values()) == pytest.approx(run.stats.tolist(), abs=1e-6)
    assert scores.numbers == evaluate(truths, predictions, LABELS)
    assert 0.1 < scores.numbers["AP"] < 0.9, "neither trivial nor perfect, or the comparison says little"
    for index, one in enumerate(scores.classes):
        precision = run.eval["precision"][:, :, index, 0, -1]
        recall = run.eval["recall"][:, index, 0, -1]
        expected = {"AP": precision.mean(), "AP50": precision[0].mean(), "AR_100": recall.mean()}
        assert {name: getattr(one, name) for name in expected} == pytest.approx(expected, abs=1e-6)
        assert one.precision == pytest.approx(precision[0].tolist(), abs=1e-6)


def test_predictions_are_rounded_as_a_service_rounds_them() -> None:
    detections = detections_of((CAT, 0.1234567, (1.23456, 2.0, 30.00051, 40.0)))
    [row] = result_rows([detections])
    assert row == {"image_id": 1, "category_id": 1, "bbox": [1.235, 2.0, 28.766, 38.0], "score": 0.123457}
    assert result_rows([as_sent(detections)]) == [row]
