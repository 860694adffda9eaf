"""Folds batch norms into the preceding convolutions: fewer kernels, and half precision throughout.

A frozen norm multiplies and adds per channel, which a convolution can do too. In half precision a norm would
convert its input to float32, as its statistics must stay float32.
"""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

TOLERANCE = 1e-3  # relative to the largest output; folding changes outputs by about 1e-6, a wrong pair by 1


class FoldingError(ValueError):
    """Folding changes the outputs of this part."""


def folded(part: nn.Module, example: Tensor) -> nn.Module:
    """A copy of the part, in eval mode, without the norms that follow a convolution.

    Pairs are found by their order in the module, which may differ from the forward pass. So both are run on
    the example; raises FoldingError if their outputs differ.
    """
    copied = copy.deepcopy(part).eval()
    for module in list(copied.modules()):
        _fold_children(module)
    with torch.inference_mode():
        for expected, output in zip(flat(part(example)), flat(copied(example)), strict=True):
            scale = float(expected.abs().max()) or 1.0
            if not float((expected - output).abs().max()) <= TOLERANCE * scale:  # `not`: also true for NaN
                raise FoldingError("a norm of this network does not belong to the convolution before it")
    return copied


def flat(output: Tensor | list[Tensor] | tuple[Tensor | list[Tensor], ...]) -> list[Tensor]:
    """The tensors of a part's output, in order."""
    if isinstance(output, Tensor):
        return [output]
    return [tensor for item in output for tensor in flat(item)]


def _fold_children(module: nn.Module) -> None:
    children = list(module.named_children())
    for (_, conv), (name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
            if norm.running_mean is None or norm.running_var is None:
                continue  # it normalises by the statistics of its input
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
