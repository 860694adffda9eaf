"""The measurements of the checks on examples that are counted by hand."""

import numpy as np
import pytest
from torchvision.models.detection.anchor_utils import AnchorGenerator

from models.diagnosis.anchors import measure_anchors
from models.diagnosis.clusters import cluster, shape_ious
from models.diagnosis.inspection import InspectedImage
from models.diagnosis.localisation import judge_localisation, measure_localisation
from models.diagnosis.nms import sweep_thresholds
from models.diagnosis.recall import measure_recall
from models.evaluation.coco import GroundTruth
from tests.support.data.ground_truth import detections_of


def inspected(
    objects: list[list[float]], labels: list[int], found: list[tuple[list[float], int, float]]
) -> InspectedImage:
    """An image with these objects, and these candidates (box, label, score), which are proposals as well."""
    candidates = detections_of(*((label, score, tuple(box)) for box, label, score in found))
    truth = GroundTruth(400, 300, np.array(objects, np.float32).reshape(-1, 4), np.array(labels, np.int64))
    return InspectedImage(truth, candidates, candidates.boxes, (1.0, 1.0), np.ones(len(labels)))


NAMES = ("background", "a", "b")
A, BESIDE, FAR = [0.0, 0.0, 100.0, 100.0], [50.0, 0.0, 150.0, 100.0], [200.0, 200.0, 250.0, 250.0]


def test_errors_are_told_apart() -> None:
    one = inspected(
        [A, FAR, [300, 0, 340, 40], [0, 200, 50, 250]],
        [1, 2, 1, 1],
        [
            (A, 1, 0.9),  # right
            ([0, 0, 100, 90], 1, 0.8),  # a duplicate, that NMS at 0.95 leaves
            (FAR, 1, 0.7),  # the other class
            ([300, 0, 380, 40], 1, 0.65),  # IoU 0.5: right
            ([0, 200, 50, 215], 1, 0.6),  # IoU 0.3: localisation
            ([350, 250, 390, 290], 2, 0.6),  # background
            ([350, 200, 390, 240], 2, 0.2),  # under the threshold
        ],
    )
    found = measure_localisation([one], NAMES, nms_threshold=0.95, score_threshold=0.5)
    assert found.errors == {"missed": 0, "localisation": 1, "confusion": 1, "duplicate": 1, "background": 1}
    assert (found.right, found.objects) == (2, 4)
    blind = measure_localisation([inspected([A, FAR], [1, 2], [])], NAMES, 0.5, 0.5)
    assert blind.errors["missed"] == 2
    finding = judge_localisation(blind)
    assert (finding.verdict, finding.culprit) == ("fault", "missed objects")


def test_inaccurate_boxes_are_named() -> None:
    loose = inspected([A, FAR], [1, 2], [([0, 0, 100, 65], 1, 0.9), ([200, 200, 250, 232], 2, 0.9)])
    finding = judge_localisation(measure_localisation([loose], NAMES, 0.5, 0.5))
    assert (finding.verdict, finding.culprit) == ("fault", "localisation (boxes are inaccurate)")


def test_lost_and_duplicates_are_counted() -> None:
    """A and its neighbour overlap by IoU 1/3; A has a second box with IoU 0.9."""
    one = inspected([A, BESIDE], [1, 1], [(A, 1, 0.9), (BESIDE, 1, 0.8), ([0, 0, 100, 90], 1, 0.7)])
    sweep = sweep_thresholds([one], NAMES, own=0.25, score_threshold=0.5)
    counted = {s.threshold: (s.duplicates, s.lost, s.crowded) for s in sweep.settings}
    assert counted[0.25] == counted[0.1] == counted[0.3] == (0, 1, 2)
    assert counted[0.4] == counted[0.8] == (0, 0, 0)
    assert counted[0.9] == (1, 0, 0)
    assert sweep.best.threshold == 0.4


def test_recall_counts_proposals_from_the_best_on() -> None:
    ten = [(FAR, 1, 0.9)] * 10
    one = inspected([A, FAR], [1, 2], [*ten, ([0, 0, 100, 60], 1, 0.5)])
    recall = measure_recall([one], NAMES, own=300)
    assert recall.table.tolist() == [[0.5, 1, 1, 1, 1], [0.5, 0.5, 0.5, 0.5, 0.5]]
    assert recall.by_class == {"a": (1.0, 0.0), "b": (1.0, 1.0)}
    assert recall.objects == {"a": 1, "b": 1, "small": 0, "medium": 1, "large": 1, "all": 2}


def test_k_means_finds_the_shapes_that_are_there() -> None:
    rng = np.random.default_rng(1)
    true = np.array([[10.0, 20.0], [60.0, 60.0], [300.0, 100.0]])
    shapes = true[rng.integers(3, size=300)] * rng.normal(1, 0.03, (300, 2))
    found = cluster(shapes, 3)
    assert found == pytest.approx(true, rel=0.05)
    assert len(cluster(true, 9)) == 3, "no more centres than shapes"
    assert shape_ious(np.array([[10.0, 20.0]]), np.array([[20.0, 10.0]])) == pytest.approx(100 / 300)


def test_anchors_are_suggested_for_strips_too() -> None:
    strips = inspected([[0, 0, 390, 1], [0, 0, 1, 290], A], [1, 1, 1], [])
    suggestion = measure_anchors([strips], AnchorGenerator(((32,),), ((0.5, 1.0, 2.0),))).suggestion
    assert suggestion is not None
    assert min(suggestion.ratios) == 0.01
