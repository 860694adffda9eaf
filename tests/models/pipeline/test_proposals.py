"""Anchors of detectors on different devices, which share one network."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from models.engines.protocol import DenseOutput
from models.ops.nms import torchvision_nms
from models.pipeline.proposals import Proposer, proposal_config
from models.pipeline.trimmed import Trimmed
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


def test_one_suppression_of_a_batch_gives_each_image_the_proposals_that_it_has_alone() -> None:
    network = random_network()
    canvas, contents = (128, 160), [(128, 160), (100, 120), (64, 160)]
    calls: list[int] = []

    def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
        calls.append(len(boxes))
        return torchvision_nms(boxes, scores, groups, threshold)

    propose = Proposer(proposal_config(network), Trimmed(suppress))
    with torch.inference_mode():
        pixels = torch.randn(3, 3, *canvas, generator=torch.Generator().manual_seed(0))
        features = list(network.backbone(pixels).values())
        output = DenseOutput(features, *network.rpn.head(features))
        together = propose(output, canvas, contents)
        assert len(calls) == 1
        for k, content in enumerate(contents):
            parts = (
                [level[k : k + 1] for level in part] for part in (features, output.objectness, output.deltas)
            )
            [alone] = propose(DenseOutput(*parts), canvas, [content])
            assert torch.equal(together[k], alone)
            assert len(alone)
