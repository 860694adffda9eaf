"""Memory that recorded runs share: only one runs at a time, so each may use the same input and output."""

import torch
from torch import Tensor

from models.engines.protocol import DenseOutput


class SharedBuffers:
    """The inputs and outputs of recorded runs, in one buffer each, as large as the largest needs.

    A run that was recorded with a smaller buffer keeps that one. As sizes double, all of them together are at
    most twice the largest.
    """

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self._inputs = torch.empty(0, device=device, dtype=dtype)
        self._outputs: list[Tensor] = []

    def example(self, batch: int, canvas: tuple[int, int]) -> Tensor:
        """An input (B, H, W, 3) of noise, in the shared memory."""
        height, width = canvas
        self._inputs = _grown(self._inputs, count := batch * height * width * 3)
        return self._inputs[:count].view(batch, height, width, 3).normal_()

    def store(self, output: DenseOutput) -> DenseOutput:
        """A copy of the output in the shared memory; the next one overwrites it.

        The first output of a size allocates, so that must not be in a recording.
        """
        tensors = output.tensors
        self._outputs += [tensor.new_empty(0) for tensor in tensors[len(self._outputs) :]]
        self._outputs = [
            _grown(*pair) for pair in zip(self._outputs, map(Tensor.numel, tensors), strict=True)
        ]
        copies = [
            buffer[: tensor.numel()].as_strided(tensor.shape, tensor.stride()).copy_(tensor)
            for buffer, tensor in zip(self._outputs, tensors, strict=True)
        ]
        first, second = len(output.features), len(output.features) + len(output.objectness)
        return DenseOutput(copies[:first], copies[first:second], copies[second:])


def _grown(buffer: Tensor, count: int) -> Tensor:
    return buffer if len(buffer) >= count else buffer.new_empty(count)
