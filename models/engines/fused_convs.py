"""Convolutions whose bias, residual and ReLU are part of the same cuDNN kernel, for half precision on a GPU.

torch runs each of them as a kernel of its own, which reads and writes all of the output again: of an image of
800x1088 through a ResNet-50 FPN that is 2.3 of 3.7 GB. For some shapes cuDNN's fused kernel is slower, or
does not exist. So both are timed when a shape is first met, which is in warm-up, and the faster one stays.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock, Bottleneck

from models.engines.folding import flat

log = logging.getLogger(__name__)


class Convolve(Protocol):
    """ReLU(convolution with bias + residual, if there is one)."""

    def __call__(self, conv: nn.Conv2d, pixels: Tensor, residual: Tensor | None = None, /) -> Tensor: ...


Seconds = Callable[[Callable[[], Tensor]], float]

TOLERANCE = 0.02  # relative to the largest value; half precision rounds differently in one kernel and in four
RUNS = 5


def in_steps(conv: nn.Conv2d, pixels: Tensor, residual: Tensor | None = None) -> Tensor:
    """A kernel for each step."""
    output: Tensor = conv(pixels)
    return (output if residual is None else output.add_(residual)).relu_()


def by_cudnn(conv: nn.Conv2d, pixels: Tensor, residual: Tensor | None = None) -> Tensor:
    """One kernel. Raises RuntimeError where cuDNN has none."""
    if isinstance(conv.padding, str):
        raise RuntimeError(f"padding {conv.padding!r} is not a number")
    weight, pixels = conv.weight, pixels.to(conv.weight.dtype)
    geometry = conv.stride, conv.padding, conv.dilation, conv.groups
    if residual is None:
        return torch.cudnn_convolution_relu(pixels, weight, conv.bias, *geometry)
    return torch.cudnn_convolution_add_relu(pixels, weight, residual, 1.0, conv.bias, *geometry)


def cuda_seconds(run: Callable[[], Tensor]) -> float:
    """The time of a run on the current stream of a CUDA device, after one that is not timed."""
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch has no types for it
    run()
    began.record()
    for _ in range(RUNS):
        run()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended)) / 1000 / RUNS


@dataclass(eq=False)
class FasterConvolve:
    """`in_steps` or `fused`, whichever was faster for a layer's geometry and a batch of that size."""

    fused: Convolve = by_cudnn
    seconds: Seconds = cuda_seconds
    chosen: dict[tuple[object, ...], Convolve] = field(default_factory=dict)

    def __call__(self, conv: nn.Conv2d, pixels: Tensor, residual: Tensor | None = None) -> Tensor:
        """See `Convolve`."""
        padded_batch = (len(pixels) - 1).bit_length()  # larger canvases are as fast a pixel
        key = (padded_batch, conv.weight.shape, conv.stride, conv.dilation, conv.groups, residual is None)
        if key not in self.chosen:
            self.chosen[key] = self._faster(conv, pixels, residual)
        return self.chosen[key](conv, pixels, residual)

    def _faster(self, conv: nn.Conv2d, pixels: Tensor, residual: Tensor | None) -> Convolve:
        try:
            expected, output = (run(conv, pixels, residual) for run in (in_steps, self.fused))
        except RuntimeError as error:
            log.info("no fused kernel for %s: %s", conv, (str(error).splitlines() or [""])[0])
            return in_steps
        same = float((expected - output).abs().max()) <= TOLERANCE * float(expected.abs().max())
        arguments = conv, pixels, residual
        steps, fused = (self.seconds(partial(run, *arguments)) for run in (in_steps, self.fused))
        return self.fused if same and fused < steps else in_steps


class _ConvReLU(nn.Module):
    """A convolution and the ReLU that follows it."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.convolve: Convolve = in_steps

    def forward(self, pixels: Tensor) -> Tensor:
        return self.convolve(self.conv, pixels)


class _Block(nn.Module):
    """torchvision's BasicBlock or Bottleneck without norms."""

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        names = ("conv1", "conv2", "conv3") if isinstance(block, Bottleneck) else ("conv1", "conv2")
        self.names = names
        for name in names:
            self.add_module(name, block.get_submodule(name))
        self.downsample = block.downsample
        self.convolve: Convolve = in_steps

    def forward(self, pixels: Tensor) -> Tensor:
        output, (*first, last) = pixels, (getattr(self, name) for name in self.names)
        for conv in first:
            output = self.convolve(conv, output)
        residual = pixels if self.downsample is None else self.downsample(pixels)
        return self.convolve(last, output, residual)


def fuse(part: nn.Module, example: Tensor, convolve: FasterConvolve) -> nn.Module:
    """The part, changed in place; the part itself if its outputs were others.

    Pairs of convolution and ReLU are found by their order, as norms are in `models.engines.folding`.
    """
    with torch.inference_mode():
        expected = flat(part(example))
        replaced = _replace(part)
        if all(map(torch.equal, expected, flat(part(example)))):
            _use(part, convolve)
            return part
    log.warning("convolutions are not fused: a ReLU of this network does not belong to the one before it")
    for owner, name, original in reversed(replaced):
        setattr(owner, name, original)
    return part


_Replaced = list[tuple[nn.Module, str, nn.Module]]


def _replace(part: nn.Module) -> _Replaced:
    replaced: _Replaced = []

    def put(owner: nn.Module, name: str, new: nn.Module) -> None:
        replaced.append((owner, name, owner.get_submodule(name)))
        setattr(owner, name, new)

    for module in list(part.modules()):
        for name, child in module.named_children():
            if _is_plain_block(child):
                put(module, name, _Block(child))
        if isinstance(module, nn.Sequential | IntermediateLayerGetter):
            layers = [pair for pair in module.named_children() if not isinstance(pair[1], nn.Identity)]
            for (name, conv), (after, relu) in pairwise(layers):
                if isinstance(conv, nn.Conv2d) and type(relu) is nn.ReLU:
                    put(module, name, _ConvReLU(conv))
                    put(module, after, nn.Identity())
    return replaced


def _use(part: nn.Module, convolve: Convolve) -> None:
    for module in part.modules():
        if isinstance(module, _ConvReLU | _Block):
            module.convolve = convolve


def _is_plain_block(module: nn.Module) -> bool:
    """Whether it is a block of torchvision's whose norms are folded."""
    if not isinstance(module, BasicBlock | Bottleneck):
        return False
    names = ("bn1", "bn2", "bn3") if isinstance(module, Bottleneck) else ("bn1", "bn2")
    unchanged = type(module).forward in (BasicBlock.forward, Bottleneck.forward)
    return unchanged and all(isinstance(getattr(module, name), nn.Identity) for name in names)
