"""VOC's mAP is that of the challenge's development kit, here transcribed step by step."""

from dataclasses import replace

import numpy as np
import pytest

from models.detections import Detections
from models.evaluation.coco import GroundTruth, result_rows, score, truth_document
from models.evaluation.voc import score_voc
from tests.models.evaluation.test_coco import pycocotools
from tests.support.data.ground_truth import (
    CAT,
    LABELS,
    detections_of,
    noisy_predictions,
    random_truths,
    truth,
)


def mark_difficult(truths: list[GroundTruth], share: float = 0.3) -> list[GroundTruth]:
    rng = np.random.default_rng(5)
    return [replace(one, difficult=rng.random(len(one.labels)) < share) for one in truths]


def devkit(truths: list[GroundTruth], predictions: list[Detections], label: int, eleven: bool) -> float:
    """The AP of one class, step by step as in the kit."""
    objects = {
        k: (one.boxes[one.labels == label], one.is_difficult[one.labels == label], set())
        for k, one in enumerate(truths)
    }
    npos = sum(int((~difficult).sum()) for _, difficult, _ in objects.values())
    rows = [
        (float(found.scores[i]), k, found.boxes[i].astype(float))
        for k, found in enumerate(predictions)
        for i in np.flatnonzero(found.labels == label)
    ]
    tp, fp = [], []
    for _, k, (x1, y1, x2, y2) in sorted(rows, key=lambda row: -row[0]):
        boxes, difficult, taken = objects[k]
        best, at = 0.0, -1
        for j, (a1, b1, a2, b2) in enumerate(boxes.astype(float)):
            width, height = min(x2, a2) - max(x1, a1) + 1, min(y2, b2) - max(y1, b1) + 1
            common = max(width, 0.0) * max(height, 0.0)
            areas = (x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1)
            if common / (areas - common) > best:
                best, at = common / (areas - common), j
        hit = best >= 0.5
        tp.append(hit and not difficult[at] and at not in taken)
        fp.append(not hit or (not difficult[at] and at in taken))
        if hit:
            taken.add(at)
    right, wrong = np.cumsum(tp), np.cumsum(fp)
    recall, precision = right / npos, right / np.maximum(right + wrong, 1e-12)
    if eleven:
        return sum(max(precision[recall >= t], default=0.0) for t in np.linspace(0, 1, 11)) / 11
    ap, before = 0.0, 0.0
    for k, reached in enumerate(recall):
        ap += (reached - before) * max(precision[k:])
        before = reached
    return ap


def test_the_map_is_that_of_the_development_kit() -> None:
    truths = mark_difficult(random_truths(30))
    predictions = noisy_predictions(truths)
    scores = score_voc(truths, predictions, LABELS)
    for label, each in enumerate(scores.classes, start=1):
        assert pytest.approx(devkit(truths, predictions, label, eleven=False), abs=1e-9) == each.AP
        assert each.AP_11_points == pytest.approx(devkit(truths, predictions, label, eleven=True), abs=1e-9)
    assert scores.mAP == pytest.approx(np.mean([each.AP for each in scores.classes]))
    assert 0.2 < scores.mAP < 0.95
    plain = [replace(one, difficult=None) for one in truths]
    assert scores.mAP != pytest.approx(score_voc(plain, predictions, LABELS).mAP, abs=1e-3)


def test_files_that_count_from_one_include_the_last_pixel_already() -> None:
    """1 is subtracted from the start of their boxes as they are read, so IoU is the ordinary one."""
    [one] = [truth((CAT, (0, 0, 10, 10), False))]
    found = [detections_of((CAT, 0.9, (0, 0, 5, 10)))]
    assert score_voc([one], found, LABELS).mAP == 1, "6 * 11 of 11 * 11 pixels"
    wider = replace(one, boxes=np.array([[0, 0, 11, 10]], np.float32), counts_from_one=True)
    assert score_voc([wider], found, LABELS).mAP == 0, "5 of 11"
    assert score_voc([truth()], [Detections.empty()], LABELS).mAP == -1


def test_difficult_objects_and_outlines_score_as_in_pycocotools() -> None:
    """Difficult objects are ignored by their IoU; sizes are those of the annotated areas."""
    rng = np.random.default_rng(7)
    truths = [
        replace(one, areas=one.sizes * rng.uniform(0.1, 1, len(one.labels)))
        for one in mark_difficult(random_truths(30, crowds=0.1))
    ]
    document, rows = truth_document(truths, LABELS), result_rows(noisy_predictions(truths))
    scores, run = score(document, rows), pycocotools(document, rows)
    assert list(scores.numbers.values()) == pytest.approx(run.stats.tolist(), abs=1e-6)
    for index, one in enumerate(scores.classes):
        small = run.eval["precision"][:, :, index, 1, -1]
        assert one.numbers["AP_small"] == pytest.approx(small.mean(), abs=1e-6)
    one = [
        replace(
            truth((CAT, (0, 0, 100, 100), False), (CAT, (0, 0, 90, 90), False)),
            difficult=np.array([True, False]),
        )
    ]
    inside = detections_of((CAT, 0.9, (0, 0, 20, 20)), (CAT, 0.5, (0, 0, 90, 90)))
    assert score(truth_document(one, LABELS), result_rows([inside])).numbers["AP50"] == pytest.approx(0.5)
