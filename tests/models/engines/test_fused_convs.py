"""Fused convolutions: the same outputs, nothing left beside them, and the faster kernel for each geometry."""

import pytest
import torch
from torch import Tensor, nn

from models.engines.folding import flat, folded
from models.engines.fused_convs import FasterConvolve, by_cudnn, fuse, in_steps
from models.engines.parts import DensePart
from models.networks import build_network
from tests.models.engines.test_folding import lively

pytestmark = pytest.mark.network

EXAMPLE = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
# Fused kernels of a run, and those with a residual: the stem, three of a block, one of the RPN a level.
ARCHITECTURES = {"resnet50_fpn": (1 + 3 * 16 + 5, 16), "small": (1 + 2 * 8 + 4, 8)}


class Kernel:
    """A stand-in for cuDNN's kernel that counts."""

    def __init__(self, wrong: float = 0.0, error: RuntimeError | None = None) -> None:
        self.calls = self.with_residual = 0
        self._wrong, self._error = wrong, error

    def __call__(self, conv: nn.Conv2d, pixels: Tensor, residual: Tensor | None = None) -> Tensor:
        self.calls += 1
        self.with_residual += residual is not None
        if self._error:
            raise self._error
        output = nn.functional.conv2d(
            pixels, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation
        )
        output = output if residual is None else output + residual
        return (output + self._wrong).clamp_(min=0)


class Clock:
    """Says how long each run takes, in turns: in steps, then fused."""

    def __init__(self, steps: float, fused: float) -> None:
        self._seconds, self.count = (steps, fused), 0

    def __call__(self, run: object) -> float:
        self.count += 1
        return self._seconds[(self.count - 1) % 2]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_every_relu_after_a_convolution_is_part_of_it_and_outputs_are_equal(architecture: str) -> None:
    plain = folded(DensePart(lively(build_network(architecture, 4))).eval(), EXAMPLE)
    expected = flat(plain(EXAMPLE))
    kernel = Kernel()
    part = fuse(plain, EXAMPLE, FasterConvolve(kernel, Clock(2.0, 1.0)))
    part(EXAMPLE)  # times both kernels of each geometry
    kernel.calls = kernel.with_residual = 0
    for one, other in zip(flat(part(EXAMPLE)), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert (kernel.calls, kernel.with_residual) == ARCHITECTURES[architecture]
    assert not any(isinstance(module, nn.ReLU) for module in part.modules())


CONV = nn.Conv2d(3, 4, 3, padding=1)


@pytest.mark.parametrize(
    ("kernel", "clock", "fused"),
    [
        (Kernel(), Clock(2.0, 1.0), True),
        (Kernel(), Clock(1.0, 2.0), False),
        (Kernel(error=RuntimeError("CUDNN_STATUS_NOT_SUPPORTED")), Clock(2.0, 1.0), False),
        (Kernel(wrong=1.0), Clock(2.0, 1.0), False),
        (Kernel(wrong=float("nan")), Clock(2.0, 1.0), False),
    ],
    ids=["faster", "slower", "missing", "wrong", "nan"],
)
@torch.inference_mode()
def test_the_fused_kernel_must_exist_agree_and_be_faster(kernel: Kernel, clock: Clock, fused: bool) -> None:
    convolve = FasterConvolve(kernel, clock)
    output = convolve(CONV, EXAMPLE)
    torch.testing.assert_close(output, in_steps(CONV, EXAMPLE, None))
    assert list(convolve.chosen.values()) == [kernel if fused else in_steps]


@torch.inference_mode()
def test_each_geometry_and_batch_is_timed_once() -> None:
    clock = Clock(2.0, 1.0)
    convolve = FasterConvolve(Kernel(), clock)
    for batch, side in ((1, 8), (3, 8), (4, 16), (1, 8)):  # 3 runs as 4 does
        convolve(CONV, torch.randn(batch, 3, side, side))
    convolve(CONV, torch.randn(1, 3, 8, 8), torch.randn(1, 4, 8, 8))
    assert clock.count == 2 * 3


class Crossed(nn.Sequential):
    """A ReLU that stands after a convolution and does not follow it."""

    def forward(self, pixels: Tensor) -> Tensor:
        return self[0](pixels) + self[1](pixels)


@torch.inference_mode()
def test_a_relu_that_belongs_elsewhere_stays() -> None:
    part = Crossed(CONV, nn.ReLU(), nn.Identity())
    part[0] = nn.Conv2d(3, 3, 1)
    expected = part(EXAMPLE)
    fuse(part, EXAMPLE, FasterConvolve(Kernel(), Clock(2.0, 1.0)))
    torch.testing.assert_close(part(EXAMPLE), expected, rtol=0, atol=0)
    assert isinstance(part[1], nn.ReLU)


def test_torch_has_the_kernels() -> None:
    """Their arguments are in this order; without a GPU they refuse to run, by their own name."""
    for residual in (None, torch.zeros(1, 4, 64, 96)):
        with pytest.raises((RuntimeError, NotImplementedError), match=r"cudnn_convolution_(add_)?relu"):
            by_cudnn(CONV, EXAMPLE, residual)
