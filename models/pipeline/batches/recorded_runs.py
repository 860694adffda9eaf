"""Runs of one function as CUDA graphs: on a GPU one launch instead of hundreds.

A graph is for one canvas and batch size. Recording takes time and memory, so it happens only before the first
request, for powers of two: a batch runs with the next larger graph of its canvas, whose other images are left
over from earlier batches and ignored. A canvas without a graph runs eagerly.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from models.engines.protocol import R, Recording
from models.pipeline.batches.shared_buffers import SharedBuffers

log = logging.getLogger(__name__)

TOLERANCE = 0.02  # relative to the largest value: half precision may round differently
# The share of this process's memory on the device that graphs leave free: eager runs of other canvases need
# it, and a second model during a swap.
RESERVE = 0.35


@dataclass(frozen=True, eq=False)
class RecordedRun(Generic[R]):
    """A recorded run: fill `canvases` (N, H, W, 3) and `requests` (N, K), then `replay` writes `result`.

    A smaller batch takes the first places.
    """

    canvases: Tensor
    requests: Tensor
    replay: Callable[[], object]
    result: R


class RecordedRuns(Generic[R]):
    """The recorded runs of `compute`, which takes canvases (N, H, W, 3) and the rows of their requests.

    A replay overwrites the results of the one before. If recording fails, one warning is logged and no more
    runs are recorded.
    """

    def __init__(
        self, compute: Callable[[Tensor, Tensor], R], recording: Recording, buffers: SharedBuffers
    ) -> None:
        self._compute, self._recording, self._buffers = compute, recording, buffers
        self._runs: dict[tuple[int, int, int], RecordedRun[R]] = {}
        self._more = True  # graphs may be recorded
        self._bytes_a_pixel = 0.0  # of the costliest graph so far
        self.nbytes = 0  # device memory that the graphs took

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Batch size, height and width of each."""
        return list(self._runs)

    def find(self, batch: int, canvas: tuple[int, int]) -> RecordedRun[R] | None:
        """The smallest recorded run that holds such a batch."""
        larger = [shape for shape in self._runs if shape[0] >= batch and shape[1:] == canvas]
        return self._runs[min(larger)] if larger else None

    @torch.inference_mode()
    def get_ready(self, canvas: tuple[int, int], requests: Tensor) -> None:
        """Record a run for that canvas and as many requests (N, K), if it fits."""
        shape = len(requests), *canvas
        if shape in self._runs or len(self._runs) >= self._recording.max_graphs or not self._more:
            return
        before = self._memory()
        if before and not fits(self._bytes_a_pixel * _pixels(shape), *before):
            self._give_up(shape, f"{before[0] / 2**20:.0f} of {before[1] / 2**20:.0f} MiB are free")
            return
        try:
            self._runs[shape] = self._record(shape, requests)
        except RuntimeError as error:  # of CUDA, including out of memory, or of the comparison
            self._give_up(shape, (str(error).splitlines() or [type(error).__name__])[0])
            return
        self._count_memory(shape, before)

    def _record(self, shape: tuple[int, int, int], requests: Tensor) -> RecordedRun[R]:
        batch, *canvas = shape
        canvases = self._buffers.example(batch, (canvas[0], canvas[1]))
        rows = requests.clone()
        expected = [tensor.clone() for tensor in self._compute(canvases, rows).compared]
        replay, result = self._recording.record(lambda: self._compute(canvases, rows))
        replay()
        _compare(expected, result.compared)
        return RecordedRun(canvases, rows, replay, result)

    def _memory(self) -> tuple[int, int] | None:
        return self._recording.memory() if self._recording.memory else None

    def _give_up(self, shape: tuple[int, int, int], reason: str) -> None:
        self._more = False
        log.warning("recording a CUDA graph for %s failed, other shapes run eagerly: %s", shape, reason)

    def _count_memory(self, shape: tuple[int, int, int], before: tuple[int, int] | None) -> None:
        used = max(0, before[0] - after[0]) if before and (after := self._memory()) else 0
        self._bytes_a_pixel = max(self._bytes_a_pixel, used / _pixels(shape))
        self.nbytes += used
        log.info("a CUDA graph for %s takes %.0f MiB", shape, used / 2**20)


def padded_batch(size: int) -> int:
    """The batch size that is recorded for a batch of that size: the next power of two."""
    return 1 << (size - 1).bit_length()


def fits(needed: float, left: int, allowed: int) -> bool:
    """Whether a graph of that many bytes leaves the reserve, where `left` of `allowed` bytes are free."""
    return left - needed >= RESERVE * allowed


def _pixels(shape: tuple[int, int, int]) -> int:
    batch, height, width = shape
    return batch * height * width


def _compare(eager: Sequence[Tensor], replayed: Sequence[Tensor]) -> None:
    """Raise RuntimeError if a replay's results differ from the eager run's."""
    for expected, output in zip(eager, replayed, strict=True):
        if not float((expected - output).abs().max()) <= TOLERANCE * max(float(expected.abs().max()), 1e-6):
            raise RuntimeError("the replay's output differs from the eager run's")
