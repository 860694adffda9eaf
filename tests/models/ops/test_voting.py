"""Box voting: the mean of the boxes of one class that overlap; a request's score threshold changes no box."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models.detections import Detections
from models.detector import Job
from models.images.decoder import Image
from models.ops.voting import vote
from models.options import Options
from models.zoo.sections import Head
from tests.support.data.networks import random_card, random_detector

Array = npt.NDArray[np.float64]

BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [0, 0, 10, 11], [0, 0, 10, 14], [50, 50, 60, 60]])
LABELS = torch.tensor([1, 1, 2, 1, 1])
SCORES = torch.tensor([0.9, 0.3, 0.8, 0.04, 0.02])


@pytest.mark.parametrize(
    ("overlap", "heights"),
    [(0.8, [(10 * 0.9 + 12 * 0.3) / 1.2, 11.0]), (0.9, [10.0, 11.0])],
)
def test_a_box_is_the_mean_of_its_class_by_score(overlap: float, heights: list[float]) -> None:
    """Neither another class votes nor a score of 0.04; a box without a voter stays."""
    best = torch.tensor([0, 2, 4])
    voted = vote(BOXES, LABELS, SCORES, best, overlap)
    assert voted[:, 3].tolist() == pytest.approx([*heights, 60.0])
    assert voted[2].tolist() == BOXES[4].tolist()
    assert vote(BOXES, LABELS, SCORES, torch.tensor([], dtype=torch.int64), overlap).shape == (0, 4)


@pytest.mark.network
def test_a_card_with_voting_finds_the_same_objects_at_better_places_for_every_threshold() -> None:
    image = Image(np.random.default_rng(5).integers(0, 256, (120, 160, 3), np.uint8), "PNG")
    options = Options(0.1, 0.5, 1000)
    voting_card = random_card().model_copy(update={"head": Head(voting_iou=0.7)})
    plain, voting = random_detector(), random_detector(voting_card)
    canvas = voting.prepare(image)
    [before], [after] = (each.detect([Job(canvas, options)]) for each in (plain, voting))
    assert (before.scores == after.scores).all()
    assert (before.labels == after.labels).all()
    assert len(after) > 20
    assert (before.boxes != after.boxes).any()
    everything = replace(options, score_threshold=0.05, nms_threshold=1.0)  # all candidates that vote
    [candidates] = plain.detect([Job(canvas, everything)])
    np.testing.assert_allclose(after.boxes, _voted(candidates, before), atol=0.02)
    for threshold in (0.02, 0.3, 0.6):
        [fewer] = voting.detect([Job(canvas, replace(options, score_threshold=threshold))])
        common = min(len(fewer), len(after))
        assert (fewer.boxes[:common] == after.boxes[:common]).all()
        assert (fewer.scores > threshold).all()


def _voted(candidates: Detections, found: Detections) -> Array:
    """The means, computed one after the other."""
    boxes, labels, scores = candidates.boxes, candidates.labels, candidates.scores
    means = []
    for box, label in zip(found.boxes, found.labels, strict=True):
        low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
        common = (high - low).clip(min=0).prod(1)
        union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - common
        near = (common >= 0.7 * union) & (labels == label)
        means.append(np.average(boxes[near], axis=0, weights=scores[near]))
    return np.array(means)
