"""Precision-recall curves, the confusion matrix and counts, by hand."""

import numpy as np
import pytest

from models.detections import Detections
from models.evaluation.assessment import assess
from models.evaluation.coco import GroundTruth, as_sent, result_rows, score, truth_document
from models.evaluation.curves import confuse, trace_curve
from tests.support.data.ground_truth import (
    CAT,
    DOG,
    LABELS,
    detections_of,
    noisy_predictions,
    random_truths,
    truth,
)

SQUARE, FAR, LONELY = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 70.0, 70.0), (150.0, 0.0, 180.0, 30.0)


def by_hand() -> tuple[list[GroundTruth], list[Detections]]:
    """Four cats, a dog and a crowd of cats in two images; what becomes of each detection is beside it."""
    truths = [
        truth((CAT, SQUARE, False), (CAT, FAR, False), (DOG, LONELY, False)),
        truth((CAT, SQUARE, False), (CAT, LONELY, False), (CAT, (100, 100, 200, 200), True)),
    ]
    predictions = [
        detections_of(
            (CAT, 0.9, SQUARE),  # right
            (CAT, 0.8, (0, 0, 10, 9)),  # the same cat again: wrong
            (CAT, 0.6, LONELY),  # the dog taken for a cat: wrong
            (DOG, 0.3, FAR),  # a cat taken for a dog
        ),
        detections_of(
            (CAT, 0.85, (110, 110, 120, 120)),  # in the crowd: does not count
            (CAT, 0.7, (0, 0, 10, 6)),  # IoU 0.6: right
            (CAT, 0.2, (0, 100, 10, 110)),  # nothing there
        ),
    ]
    return truths, predictions


def test_the_curve_of_an_example_by_hand() -> None:
    curve = trace_curve(*by_hand(), CAT)
    assert curve.objects == 4
    assert curve.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.2])
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4, 2 / 5])
    assert curve.recall.tolist() == pytest.approx([1 / 4, 1 / 4, 2 / 4, 2 / 4, 2 / 4])
    assert curve.at(0.7) == pytest.approx((2 / 3, 1 / 2))
    assert curve.at(0.95) == (0.0, 0.0)
    assert curve.best() == pytest.approx((0.7, 4 / 7))


def test_the_curve_of_a_class_never_detected_is_empty() -> None:
    curve = trace_curve([truth((DOG, SQUARE, False))], [Detections.empty()], DOG)
    assert (len(curve.scores), curve.objects, curve.at(0.5), curve.best()) == (0, 1, (0.0, 0.0), (0.0, 0.0))


def test_the_confusion_of_an_example_by_hand() -> None:
    #          none cat dog     detected as, from score 0.25 on
    expected = [
        [0, 1, 0],  # nothing there: the second square
        [1, 2, 1],  # cats: the lonely one missed, two found, one taken for a dog
        [0, 1, 0],  # the dog
    ]
    assert confuse(*by_hand(), len(LABELS), 0.25).tolist() == expected
    assert confuse(*by_hand(), len(LABELS), 0.45).tolist() == [[0, 1, 0], [2, 2, 0], [0, 1, 0]]
    assert confuse(*by_hand(), len(LABELS), 0.15)[0].tolist() == [0, 2, 0]
    assert confuse(*by_hand(), len(LABELS), 0.95).tolist() == [[0, 0, 0], [4, 0, 0], [1, 0, 0]]


def test_a_threshold_includes_its_own_score() -> None:
    truths, predictions = [truth((CAT, SQUARE, False))], [detections_of((CAT, 0.35, SQUARE))]
    assert confuse(truths, predictions, 2, 0.35).tolist() == [[0, 0], [0, 1]]
    assert trace_curve(truths, predictions, CAT).at(0.35) == (1.0, 1.0)


@pytest.mark.parametrize("crowds", [0.0, 0.3], ids=["plain", "with crowds"])
def test_the_curve_leads_to_the_same_ap50_as_coco(crowds: float) -> None:
    truths = random_truths(30, crowds=crowds)
    predictions = [as_sent(detections) for detections in noisy_predictions(truths)]
    scores = score(truth_document(truths, LABELS), result_rows(predictions))
    for label in (CAT, DOG):
        curve = trace_curve(truths, predictions, label)
        envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
        at = np.searchsorted(curve.recall, np.linspace(0, 1, 101), side="left")
        interpolated = [envelope[k] if k < len(envelope) else 0.0 for k in at]
        assert np.mean(interpolated) == pytest.approx(scores.classes[label - 1].AP50, abs=1e-6)


def test_counts_leave_out_what_is_ignored() -> None:
    truths, predictions = by_hand()
    truths[0] = truth((CAT, SQUARE, False), (CAT, (0, 0, 32, 32), False), (DOG, (0, 0, 96, 96), False))
    counts = assess([*truths, truth()], [*predictions, Detections.empty()], LABELS, 0.5).counts
    assert (counts.images, counts.empty_images, counts.objects, counts.ignored) == (3, 1, 5, 1)
    assert counts.objects_by_size == {"small": 3, "medium": 1, "large": 1}
    assert counts.detections == 7
