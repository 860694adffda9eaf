"""Anchors of detectors on different devices, which share one network."""

from concurrent.futures import ThreadPoolExecutor

import torch

from models.engines.protocol import DenseOutput
from models.pipeline.proposals import Proposer, proposal_config
from tests.support.data.networks import random_network


def dense(device: str, side: int) -> DenseOutput:
    """Levels of strides 4 to 32; the values do not matter to the anchors."""
    levels = [torch.empty(1, 3, side // stride, side // stride, device=device) for stride in (4, 8, 16, 32)]
    return DenseOutput(levels, levels, levels)


def test_anchors_of_two_devices_do_not_meet() -> None:
    network = random_network()
    config = proposal_config(network)
    cells = list(network.rpn.anchor_generator.cell_anchors)

    def often(device: str) -> set[str]:
        propose, found = Proposer(config), set()
        for side in range(64, 64 + 32 * 100, 32):
            found |= {level.device.type for level in propose.anchors(dense(device, side), (side, side))}
        return found

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(often, ["cpu", "meta"])) == [{"cpu"}, {"meta"}]
    assert all(a is b for a, b in zip(network.rpn.anchor_generator.cell_anchors, cells, strict=True))


def test_anchors_are_those_of_the_generator() -> None:
    network = random_network()
    canvas, levels = (96, 160), [torch.empty(1, 3, 96 // s, 160 // s) for s in (4, 8, 16, 32)]
    ours = Proposer(proposal_config(network)).anchors(DenseOutput(levels, levels, levels), canvas)
    strides = [[torch.tensor(s), torch.tensor(s)] for s in (4, 8, 16, 32)]
    theirs = network.rpn.anchor_generator.grid_anchors([list(level.shape[-2:]) for level in levels], strides)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
