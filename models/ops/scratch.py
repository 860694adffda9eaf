"""Memory that is reused from one batch to the next.

The C library maps and unmaps memory for each tensor above 32 MB, and the kernel clears every page again: with
a ResNet-50 this took two thirds of RoIAlign's time.
"""

import math

import torch
from torch import Tensor

MAX_KEPT = 2**26  # floats (256 MB); a larger buffer is not kept


class ScratchBuffer:
    """Allocates float32 CPU tensors in reused memory; a tensor is valid until the next call."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    def __call__(self, *shape: int) -> Tensor:
        """An uninitialised tensor of the shape."""
        count = math.prod(shape)
        if count > MAX_KEPT:
            return torch.empty(shape)
        if count > len(self._memory):
            self._memory = torch.empty(count)
        return self._memory[:count].view(shape)
