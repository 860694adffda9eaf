"""Norms folded into the convolutions before them: fewer kernels, and half precision from end to end.

A frozen norm multiplies and adds per channel, which a convolution can do as well. In half precision it would
take its input back to float32 each time, as its statistics must stay float32.
"""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

TOLERANCE = 1e-3  # of the largest answer; folding moves each by about 1e-6 of it, a wrong pair by all of it


class FoldingError(ValueError):
    """A part that answers otherwise once its norms are folded."""


def folded(part: nn.Module, example: Tensor) -> nn.Module:
    """A copy of the part, in eval mode, without the norms that follow a convolution.

    Pairs are found by their order in the module, which the forward pass need not follow: so both are asked
    about the example, and FoldingError says that they disagree.
    """
    copied = copy.deepcopy(part).eval()
    for module in list(copied.modules()):
        _fold_children(module)
    with torch.inference_mode():
        for one, other in zip(flat(part(example)), flat(copied(example)), strict=True):
            scale = float(one.abs().max()) or 1.0
            if not float((one - other).abs().max()) <= TOLERANCE * scale:  # not: NaN is no agreement
                raise FoldingError("a norm of this network does not belong to the convolution before it")
    return copied


def flat(answer: Tensor | list[Tensor] | tuple[Tensor | list[Tensor], ...]) -> list[Tensor]:
    """The tensors of a part's answer, one after another."""
    if isinstance(answer, Tensor):
        return [answer]
    return [tensor for each in answer for tensor in flat(each)]


def _fold_children(module: nn.Module) -> None:
    children = list(module.named_children())
    for (_, conv), (name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
            if norm.running_mean is None or norm.running_var is None:
                continue  # it takes the statistics of what it sees
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight,
                conv.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            setattr(module, name, nn.Identity())
