"""Norms folded into convolutions: every architecture answers the same, and what cannot be folded is left."""

import logging

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from models.engines.folding import FoldingError, flat, folded
from models.engines.parts import DensePart, HeadPart
from models.engines.torch_engine import TorchEngine
from models.networks import build_network
from tests.support.data.networks import random_network

pytestmark = pytest.mark.network

NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)
ARCHITECTURES = {"resnet50_fpn": 53, "resnet50_fpn_v2": 65, "mobilenet_v3_large_fpn": 46, "small": 20}
CPU = torch.device("cpu")


def lively(module: nn.Module) -> nn.Module:
    """The module with norms that do something."""
    torch.manual_seed(0)
    for each in module.modules():
        if isinstance(each, NORMS):
            each.running_mean.normal_(0, 0.1)
            each.running_var.uniform_(0.5, 2)
            each.weight.data.uniform_(0.5, 1.5)
            each.bias.data.normal_(0, 0.1)
    return module.eval()


def norms(*parts: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for part in parts for module in part.modules())


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_a_network_without_its_norms_answers_the_same(architecture: str) -> None:
    network = lively(build_network(architecture, 4))
    dense, head = DensePart(network).eval(), HeadPart(network).eval()
    pixels = torch.randn(1, 3, 64, 96)
    ours = [folded(dense, pixels), folded(head, torch.rand(2, network.backbone.out_channels, 7, 7))]
    assert norms(dense, head) == ARCHITECTURES[architecture], "the network itself must stay as it is"
    assert norms(*ours) == 0
    other = torch.randn(2, 3, 96, 64)
    for one, two in zip(flat(dense(other)), flat(ours[0](other)), strict=True):
        assert distance(one, two) < 1e-4


class Crossed(nn.Module):
    """A norm that stands after one convolution and follows another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, pixels: Tensor) -> Tensor:
        answer: Tensor = self.second(self.norm(self.first(pixels)))
        return answer


def test_a_norm_of_another_convolution_is_detected() -> None:
    module = lively(Crossed())
    with pytest.raises(FoldingError, match="does not belong"):
        folded(module, torch.randn(1, 3, 8, 8))


def test_a_norm_without_statistics_stays() -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    assert norms(folded(module, torch.randn(1, 3, 8, 8))) == 1


@torch.inference_mode()
def test_half_precision_is_near_and_leaves_the_network_as_it_is() -> None:
    network = lively(random_network())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    full, half = TorchEngine(network, CPU, "fp32"), TorchEngine(network, CPU, "bf16")
    pixels = torch.randn(2, 128, 96, 3).permute(0, 3, 1, 2)
    one, other = full.dense(pixels), half.dense(pixels)
    pairs = [*zip(one.features, other.features, strict=True), *zip(one.deltas, other.deltas, strict=True)]
    pairs += zip(full.head(torch.rand(5, 96, 7, 7)), half.head(torch.rand(5, 96, 7, 7)), strict=True)
    assert {tensor.dtype for tensor in other.features} == {torch.bfloat16}
    assert all(tensor.dtype == torch.float32 for pair in pairs[len(one.features) :] for tensor in pair)
    assert max(distance(*pair) for pair in pairs[:-2]) < 0.05
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


@torch.inference_mode()
def test_an_engine_keeps_norms_that_cannot_be_folded(caplog: pytest.LogCaptureFixture) -> None:
    network = lively(random_network())
    network.backbone.body.stem = Crossed()
    first = network.backbone.body.layer1[0]
    first.conv1, first.downsample = nn.Conv2d(3, 32, 1), nn.Conv2d(3, 32, 1)
    lively(network)
    with caplog.at_level(logging.WARNING):
        engine = TorchEngine(network, CPU, "bf16")
    assert "the norms are not folded" in caplog.text
    pixels = torch.randn(1, 64, 96, 3).permute(0, 3, 1, 2)
    one, other = TorchEngine(network, CPU, "fp32").dense(pixels), engine.dense(pixels)
    assert distance(one.objectness[0], other.objectness[0]) < 0.1
