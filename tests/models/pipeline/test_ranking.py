"""What proposals are ranked by, where scores round to 1."""

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator

from models.engines.protocol import DenseOutput
from models.pipeline.proposals import ProposalConfig, Proposer
from models.zoo.sections import RankBy

CANVAS = (32, 32)
SIZES = 8.0, 4.0  # of the anchors of the levels, px: they tell which level a proposal is of
LOW, HIGH = 30.0, 40.0  # the sigmoid of both is 1 in float32


def first_proposal(rank_by: RankBy, fine: list[float], coarse: float) -> list[float]:
    """The best proposal of a level of four positions in a row and one of a single position."""
    config = ProposalConfig(
        AnchorGenerator(tuple((size,) for size in SIZES), ((1.0,),) * 2),
        BoxCoder((1.0, 1.0, 1.0, 1.0)),
        pre_nms=1,
        post_nms=1,
        nms_threshold=0.7,
        score_threshold=0.0,
        min_size=1e-3,
        rank_by=rank_by,
    )
    objectness = [torch.tensor(fine).view(1, 1, 1, 4), torch.tensor(coarse).view(1, 1, 1, 1)]
    deltas = [torch.zeros(1, 4, 1, 4), torch.zeros(1, 4, 1, 1)]
    [boxes] = Proposer(config)(DenseOutput([], objectness, deltas), CANVAS, [CANVAS])
    proposal: list[float] = boxes[0].tolist()
    return proposal


@pytest.mark.parametrize(("rank_by", "left"), [("both", 20), ("logits", 20), ("scores", 4)])
def test_the_best_of_a_level(rank_by: RankBy, left: float) -> None:
    """By scores, the first position of those whose scores are equal."""
    assert first_proposal(rank_by, [0.0, LOW, 0.0, HIGH], -5.0) == [left, 0, left + 8, 4]


@pytest.mark.parametrize(("rank_by", "right"), [("both", 4), ("logits", 2), ("scores", 4)])
def test_the_best_of_all_levels(rank_by: RankBy, right: float) -> None:
    """By logits, the coarse level's, although its score is not larger."""
    assert first_proposal(rank_by, [LOW, 0.0, 0.0, 0.0], HIGH) == [0, 0, right, right]
