"""Runs the dense part as CUDA graphs: on a GPU one launch instead of about two hundred.

A graph is for one canvas and batch size. Recording takes time and memory, so it happens only before the first
request (`get_ready`), for powers of two: a batch runs with the next larger graph of its canvas, whose other
images are left over from earlier batches and ignored. Canvases without a graph run eagerly.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.engines.protocol import DenseOutput, ServingEngine
from models.engines.shared_buffers import SharedBuffers, flat

log = logging.getLogger(__name__)

RunDense = Callable[[Tensor], DenseOutput]
Recorder = Callable[[RunDense, Tensor], RunDense]
Memory = Callable[[], tuple[int, int]]

MAX_GRAPHS = 32
TOLERANCE = 0.01  # relative to a level's largest value: half precision may round differently
# The share of the device's memory that graphs leave free: eager runs of other canvases need it, the stages
# after the dense part, and a second model during a swap.
RESERVE = 0.35


@dataclass(frozen=True)
class Recording:
    """How graphs are recorded: `record` makes a replay of a function, whose input is its example's memory.

    `new_recorder` makes a sibling's: graphs of one recorder must not run concurrently. `memory` tells the
    device's free and total bytes; None means no bound.
    """

    record: Recorder
    new_recorder: Callable[[], Recorder] | None = None
    memory: Memory | None = None
    max_graphs: int = MAX_GRAPHS


class GraphedEngine:
    """An engine whose dense part is replayed for the shapes that `get_ready` has recorded.

    The next run overwrites a replay's output. If recording fails, the engine logs one warning and records no
    further graphs.
    """

    def __init__(self, engine: ServingEngine, recording: Recording) -> None:
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.suppress = engine.suppress
        self._engine, self._recording = engine, recording
        self._buffers = SharedBuffers(engine.device)
        self._replays: dict[tuple[int, ...], RunDense] = {}
        self._more = True  # graphs may be recorded
        self._bytes_a_pixel = 0.0  # of the costliest graph so far

    def sibling(self) -> "GraphedEngine":
        """Another engine on the same weights, with its own graphs."""
        recording = self._recording
        record = recording.new_recorder() if recording.new_recorder else recording.record
        own = Recording(record, recording.new_recorder, recording.memory, recording.max_graphs)
        return GraphedEngine(self._engine.sibling(), own)

    @property
    def recorded(self) -> list[tuple[int, ...]]:
        """Shapes (B, 3, H, W) that are replayed."""
        return list(self._replays)

    @torch.inference_mode()
    def get_ready(self, batch: int, canvas: tuple[int, int]) -> None:
        """Record the dense part for that canvas (height, width) and at least that batch size, if it fits."""
        shape = 1 << (batch - 1).bit_length(), 3, *canvas
        if shape in self._replays or len(self._replays) >= self._recording.max_graphs or not self._more:
            return
        free = self._free()
        if free is not None and free[0] - self._bytes_a_pixel * _pixels(shape) < RESERVE * free[1]:
            self._give_up(shape, f"{free[0] / 2**20:.0f} of {free[1] / 2**20:.0f} MiB are free")
            return
        try:
            self._replays[shape] = self._record(shape)
        except RuntimeError as error:  # of CUDA, including out of memory, or of the comparison
            self._give_up(shape, (str(error).splitlines() or [type(error).__name__])[0])
            return
        self._log_size(shape, free)

    def _record(self, shape: tuple[int, ...]) -> RunDense:
        batch, _, *canvas = shape
        pixels = self._buffers.example(batch, (canvas[0], canvas[1]))
        expected = self._engine.dense(pixels)
        self._buffers.reserve(expected)
        replay = self._recording.record(
            lambda inputs: self._buffers.store(self._engine.dense(inputs)), pixels
        )
        _compare(expected, replay(pixels))
        return replay

    def _free(self) -> tuple[int, int] | None:
        return self._recording.memory() if self._recording.memory else None

    def _give_up(self, shape: tuple[int, ...], reason: str) -> None:
        self._more = False
        log.warning("recording a CUDA graph for %s failed, other shapes run eagerly: %s", shape, reason)

    def _log_size(self, shape: tuple[int, ...], before: tuple[int, int] | None) -> None:
        used = before[0] - after[0] if before and (after := self._free()) else 0
        self._bytes_a_pixel = max(self._bytes_a_pixel, used / _pixels(shape))
        log.info("a CUDA graph for %s takes %.0f MiB", shape, used / 2**20)

    def dense(self, pixels: Tensor) -> DenseOutput:
        """Canvases (B, 3, H, W) to feature maps and RPN outputs; valid until the next call."""
        batch, *rest = pixels.shape
        larger = [shape[0] for shape in self._replays if shape[0] >= batch and list(shape[1:]) == rest]
        if not larger:
            return self._engine.dense(pixels)
        output = self._replays[min(larger), *rest](pixels)
        features, objectness, deltas = (
            [level[:batch] for level in levels]
            for levels in (output.features, output.objectness, output.deltas)
        )
        return DenseOutput(features, objectness, deltas)

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, side, side) to class logits (R, K) and box deltas (R, 4K)."""
        return self._engine.head(pooled)


def _pixels(shape: tuple[int, ...]) -> int:
    batch, _, height, width = shape
    return batch * height * width


def _compare(eager: DenseOutput, replayed: DenseOutput) -> None:
    """Raise RuntimeError if a replay's output differs from the eager run's."""
    for expected, output in zip(flat(eager), flat(replayed), strict=True):
        if not float((expected - output).abs().max()) <= TOLERANCE * max(float(expected.abs().max()), 1e-6):
            raise RuntimeError("the replay's output differs from the eager run's")
