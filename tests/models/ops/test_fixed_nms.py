"""The fixed-shape suppression keeps what torchvision's keeps, or its states show that it may not."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from models.ops import fixed_nms as module
from models.ops.fixed_nms import KEPT, Ranked, fixed_nms, highest_float

GROUPS, BOXES, KINDS = 3, 300, 4


def crowd(seed: int, rounded: bool) -> Ranked:
    """Boxes that overlap a good deal, some invalid; whole coordinates put many overlaps on round numbers."""
    chance = torch.Generator().manual_seed(seed)
    corner = torch.rand(GROUPS, BOXES, 2, generator=chance) * 100
    boxes = torch.cat([corner, corner + torch.rand(GROUPS, BOXES, 2, generator=chance) * 60], dim=-1)
    boxes = boxes.round() if rounded else boxes
    kinds = torch.randint(KINDS, (GROUPS, BOXES), generator=chance)
    valid = torch.rand(GROUPS, BOXES, generator=chance) > 0.1
    return Ranked(boxes, boxes[..., 2:] - boxes[..., :2], valid, kinds)


def expected(ranked: Ranked, group: int, threshold: float) -> list[int]:
    """What torchvision keeps of each kind."""
    assert ranked.kinds is not None
    kept: list[int] = []
    for kind in range(KINDS):
        among = torch.where(ranked.valid[group] & (ranked.kinds[group] == kind))[0]
        falling = torch.arange(len(among), 0, -1).float()
        kept += among[nms(ranked.boxes[group][among], falling, threshold)].tolist()
    return sorted(kept)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 1 / 3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("rounded", [False, True])
def test_it_keeps_what_torchvision_keeps(threshold: float, rounded: bool) -> None:
    for seed in range(10):
        ranked = crowd(seed, rounded)
        before, after = fixed_nms(ranked, highest_float(threshold), 40)
        assert torch.equal(before, after)
        for group in range(GROUPS):
            kept = torch.where(after[group] == KEPT)[0].tolist()
            assert kept == expected(ranked, group, threshold), (seed, group)


def test_each_group_has_a_threshold_of_its_own() -> None:
    ranked, thresholds = crowd(1, rounded=False), [0.1, 0.5, 0.9]
    _, after = fixed_nms(ranked, torch.tensor(thresholds)[:, None, None], 40)
    for group, threshold in enumerate(thresholds):
        assert torch.where(after[group] == KEPT)[0].tolist() == expected(ranked, group, threshold)


def chain(length: int) -> Ranked:
    """Each box overlaps the one before it and the one after it: every second one is kept."""
    left = torch.arange(length, dtype=torch.float32) * 3
    boxes = torch.stack([left, torch.zeros(length), left + 10, torch.full((length,), 10.0)], dim=1)[None]
    return Ranked(boxes, boxes[..., 2:] - boxes[..., :2], torch.ones(1, length, dtype=torch.bool))


@pytest.mark.parametrize(("length", "enough"), [(6, True), (7, False), (200, False)])
def test_a_chain_longer_than_the_iterations_shows(length: int, enough: bool) -> None:
    before, after = fixed_nms(chain(length), 0.5, 6)
    assert torch.equal(before, after) == enough
    if enough:
        assert (after[0] == KEPT).tolist() == [k % 2 == 0 for k in range(length)]


def test_groups_beyond_the_memory_bound_are_computed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked, threshold = crowd(2, rounded=True), torch.tensor([0.3, 0.5, 0.7])[:, None, None]
    together = fixed_nms(ranked, threshold, 8)
    monkeypatch.setattr(module, "MAX_PAIRS", BOXES**2)
    for one, other in zip(fixed_nms(ranked, threshold, 8), together, strict=True):
        assert torch.equal(one, other)


def test_the_highest_float_divides_floats_as_the_threshold_does() -> None:
    for threshold in (0.0, 0.1, 0.3, 0.5, 0.7, 1.0):
        near = torch.tensor(highest_float(threshold))
        above = torch.nextafter(near, torch.tensor(2.0))
        assert float(near) <= threshold < float(above)


def test_no_boxes() -> None:
    empty = torch.zeros(2, 0, 4)
    before, after = fixed_nms(Ranked(empty, empty[..., :2], torch.zeros(2, 0, dtype=torch.bool)), 0.5, 3)
    assert before.shape == after.shape == (2, 0)


def test_two_empty_boxes_do_not_suppress_each_other() -> None:
    boxes: Tensor = torch.full((1, 2, 4), 5.0)
    _, after = fixed_nms(Ranked(boxes, torch.zeros(1, 2, 2), torch.ones(1, 2, dtype=torch.bool)), 0.0, 3)
    assert (after == KEPT).all()
