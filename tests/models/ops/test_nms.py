"""OpenVINO's suppression keeps the very boxes that torchvision's keeps, in its order."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from models.engines.openvino_import import ov
from models.engines.openvino_nms import WORTHWHILE, OpenVINONMS

BOXES, GROUPS = 500, 4


@pytest.fixture(scope="module")
def suppress() -> OpenVINONMS:
    return OpenVINONMS(ov.Core(), {})


def crowd(seed: int, rounded: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap a good deal; whole coordinates put many overlaps on round numbers."""
    chance = torch.Generator().manual_seed(seed)
    corner = torch.rand(BOXES, 2, generator=chance) * 100
    boxes = torch.cat([corner, corner + torch.rand(BOXES, 2, generator=chance) * 60], dim=1)
    scores = torch.rand(BOXES, generator=chance)
    groups = torch.randint(GROUPS, (BOXES,), generator=chance) * 3  # some numbers have no box
    return (boxes.round() if rounded else boxes), scores, groups


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 1 / 3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("rounded", [False, True])
def test_it_keeps_what_torchvision_keeps(suppress: OpenVINONMS, threshold: float, rounded: bool) -> None:
    for seed in range(20):
        boxes, scores, groups = crowd(seed, rounded)
        expected = batched_nms(boxes, scores, groups, threshold)
        assert suppress(boxes, scores, groups, threshold).tolist() == expected.tolist(), seed


def test_equal_scores_keep_their_order(suppress: OpenVINONMS) -> None:
    boxes, _, groups = crowd(0, rounded=True)
    scores, alone = torch.full((BOXES,), 0.5), torch.zeros_like(groups)
    expected = batched_nms(boxes, scores, alone, 0.5)
    assert suppress(boxes, scores, alone, 0.5).tolist() == expected.tolist()


@pytest.mark.parametrize("count", [0, 1, WORTHWHILE - 1, WORTHWHILE])
def test_any_number_of_boxes(suppress: OpenVINONMS, count: int) -> None:
    boxes, scores, groups = (values[:count] for values in crowd(1, rounded=False))
    expected = batched_nms(boxes, scores, groups, 0.5)
    assert suppress(boxes, scores, groups, 0.5).tolist() == expected.tolist()


def test_logits_below_zero_count_as_scores(suppress: OpenVINONMS) -> None:
    boxes, scores, groups = crowd(2, rounded=False)
    expected = batched_nms(boxes, scores - 100, groups, 0.5)
    assert suppress(boxes, scores - 100, groups, 0.5).tolist() == expected.tolist()


def test_an_answer_outlives_the_next(suppress: OpenVINONMS) -> None:
    boxes, scores, groups = crowd(3, rounded=False)
    first = suppress(boxes, scores, groups, 0.5)
    copy = first.clone()
    suppress(*crowd(4, rounded=False), 0.5)
    assert torch.equal(first, copy)
