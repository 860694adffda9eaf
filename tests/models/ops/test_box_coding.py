"""Decoded boxes, bit by bit as torchvision decodes them."""

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from models.ops.box_coding import centres_and_sizes, decode


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
@pytest.mark.parametrize("count", [0, 1, 7, 5000])
def test_every_bit_is_torchvisions(weights: tuple[float, ...], count: int) -> None:
    chance = torch.Generator().manual_seed(count)
    corner = torch.rand(count, 2, generator=chance) * 800
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=chance) * 300], dim=1)
    deltas = torch.randn(count, 4, generator=chance) * 3  # some above the limit of the exponent
    coder = BoxCoder(weights)
    assert torch.equal(decode(deltas, *centres_and_sizes(boxes), coder), coder.decode_single(deltas, boxes))
