"""Runs the dense part as CUDA graphs: on a GPU one launch instead of about two hundred.

A graph is for one batch shape. Recording takes time and memory, so it happens only before the first request
(`get_ready`); other shapes run eagerly. The head is not recorded: it has about six kernels, and its number of
rows differs for each batch. A graph of a fixed number would compute up to `post_nms` unneeded rows per image
to save about ten microseconds.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from models.engines.protocol import DenseOutput, ServingEngine

log = logging.getLogger(__name__)

RunDense = Callable[[Tensor], DenseOutput]
Recorder = Callable[[RunDense, Tensor], RunDense]

MAX_GRAPHS = 32  # each graph holds its input and output on the device
TOLERANCE = 0.01  # relative to a level's largest value: half precision may round differently


class GraphedEngine:
    """An engine whose dense part is replayed for the shapes that `get_ready` has recorded.

    `record` makes a replay of a function for the shape of an example; the next replay overwrites its output.
    If recording fails, the engine logs one warning and records no further graphs.
    """

    def __init__(
        self,
        engine: ServingEngine,
        record: Recorder,
        max_graphs: int = MAX_GRAPHS,
        new_recorder: Callable[[], Recorder] | None = None,
    ) -> None:
        """`new_recorder` makes a sibling's recorder: graphs of one recorder must not run concurrently."""
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.suppress = engine.suppress
        self._engine = engine
        self._record, self._new_recorder = record, new_recorder
        self._max_graphs = max_graphs
        self._replays: dict[tuple[int, ...], RunDense] = {}

    def sibling(self) -> "GraphedEngine":
        """Another engine on the same weights, with its own graphs."""
        record = self._new_recorder() if self._new_recorder else self._record
        return GraphedEngine(self._engine.sibling(), record, self._max_graphs, self._new_recorder)

    @property
    def recorded(self) -> list[tuple[int, ...]]:
        """Shapes (B, 3, H, W) that are replayed."""
        return list(self._replays)

    @torch.inference_mode()
    def get_ready(self, batch: int, canvas: tuple[int, int]) -> None:
        """Record the dense part for that batch size and canvas (height, width), if graphs are left."""
        shape = batch, 3, *canvas
        if shape in self._replays or len(self._replays) >= self._max_graphs:
            return
        try:
            pixels = torch.randn(batch, *canvas, 3, device=self.device).permute(0, 3, 1, 2)
            replay = self._record(self._engine.dense, pixels)
            _compare(self._engine.dense(pixels), replay(pixels))
        except RuntimeError as error:  # of CUDA, including out of memory, or of the comparison
            self._max_graphs = 0
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            log.warning("recording a CUDA graph for %s failed, other shapes run eagerly: %s", shape, reason)
            return
        self._replays[shape] = replay

    def dense(self, pixels: Tensor) -> DenseOutput:
        """Canvases (B, 3, H, W) to feature maps and RPN outputs; valid until the next call."""
        return self._replays.get(tuple(pixels.shape), self._engine.dense)(pixels)

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, side, side) to class logits (R, K) and box deltas (R, 4K)."""
        return self._engine.head(pooled)


def _compare(eager: DenseOutput, replayed: DenseOutput) -> None:
    """Raise RuntimeError if a replay's output differs from the eager run's."""
    pairs = [
        *zip(eager.features, replayed.features, strict=True),
        *zip(eager.objectness, replayed.objectness, strict=True),
        *zip(eager.deltas, replayed.deltas, strict=True),
    ]
    for expected, output in pairs:
        if not float((expected - output).abs().max()) <= TOLERANCE * max(float(expected.abs().max()), 1e-6):
            raise RuntimeError("the replay's output differs from the eager run's")
