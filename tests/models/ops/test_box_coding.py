"""Decoded boxes, bit by bit as torchvision decodes them."""

import pytest
import torch

from models.networks.adjust import coder as box_coder
from models.ops.box_coding import centres_and_sizes, decode


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
@pytest.mark.parametrize("count", [0, 1, 7, 5000])
def test_every_bit_is_torchvisions(
    both: bool, weights: tuple[float, float, float, float], count: int
) -> None:
    chance = torch.Generator().manual_seed(count)
    corner = torch.rand(count, 2, generator=chance) * 800
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=chance) * 300], dim=1)
    # Some beyond the limit of the exponent, both ways.
    deltas = torch.randn(count, 4, generator=chance) * 3 * torch.tensor(weights)
    coder = box_coder(weights, both)
    assert torch.equal(decode(deltas, *centres_and_sizes(boxes), coder), coder.decode_single(deltas, boxes))
