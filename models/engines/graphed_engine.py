"""Recorded runs of the dense part: on a GPU one launch in place of some two hundred.

A graph belongs to one shape of batch. Recording takes time and memory and happens before the first request
alone (`get_ready`); every other shape runs as it would have. The head stays as it is: it is half a dozen
kernels, and its rows are as many as there are proposals, another number with each batch. A graph of a fixed
number would compute up to `post_nms` rows an image that nobody asked for, to save some ten microseconds.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from models.engines.protocol import DenseOutput, ServingEngine

log = logging.getLogger(__name__)

Dense = Callable[[Tensor], DenseOutput]
Record = Callable[[Dense, Tensor], Dense]

MOST = 32  # graphs; each keeps its input and its output on the device
AGREEMENT = 0.01  # of a level's largest value: the same kernels ran, but half precision may round otherwise


class GraphedEngine:
    """An engine whose dense part is replayed for the shapes that `get_ready` has seen.

    `record` makes a replay of a function for the shape of an example; its answers lie in one place, which the
    next replay overwrites. Whatever goes wrong with it is one warning, and the engine goes on without more.
    """

    def __init__(
        self,
        engine: ServingEngine,
        record: Record,
        most: int = MOST,
        another: Callable[[], Record] | None = None,
    ) -> None:
        """`another` makes the recorder of a sibling: graphs of one recorder must not run at the same time."""
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.suppress = engine.suppress
        self._engine = engine
        self._record, self._another = record, another
        self._most = most
        self._replays: dict[tuple[int, ...], Dense] = {}

    def sibling(self) -> "GraphedEngine":
        """One more on the same weights, with graphs of its own."""
        record = self._another() if self._another else self._record
        return GraphedEngine(self._engine.sibling(), record, self._most, self._another)

    @property
    def recorded(self) -> list[tuple[int, ...]]:
        """Shapes (B, 3, H, W) that are replayed."""
        return list(self._replays)

    @torch.inference_mode()
    def get_ready(self, batch: int, canvas: tuple[int, int]) -> None:
        """Record the dense part for so many canvases (height, width), while there is room for more."""
        shape = batch, 3, *canvas
        if shape in self._replays or len(self._replays) >= self._most:
            return
        try:
            pixels = torch.randn(batch, *canvas, 3, device=self.device).permute(0, 3, 1, 2)
            replay = self._record(self._engine.dense, pixels)
            _compare(self._engine.dense(pixels), replay(pixels))
        except RuntimeError as error:  # of CUDA, out of memory among them, or of the comparison
            self._most = 0
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            log.warning("no CUDA graph for batches of %s, nor any more; they run eagerly: %s", shape, reason)
            return
        self._replays[shape] = replay

    def dense(self, pixels: Tensor) -> DenseOutput:
        """Canvases (B, 3, H, W) to feature maps and RPN outputs; valid until the next call."""
        return self._replays.get(tuple(pixels.shape), self._engine.dense)(pixels)

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, side, side) to class logits (R, K) and box deltas (R, 4K)."""
        return self._engine.head(pooled)


def _compare(eager: DenseOutput, replayed: DenseOutput) -> None:
    """Raise RuntimeError where a replay does not answer what was recorded."""
    pairs = [
        *zip(eager.features, replayed.features, strict=True),
        *zip(eager.objectness, replayed.objectness, strict=True),
        *zip(eager.deltas, replayed.deltas, strict=True),
    ]
    for one, other in pairs:
        if not float((one - other).abs().max()) <= AGREEMENT * max(float(one.abs().max()), 1e-6):
            raise RuntimeError("its replay does not answer what the eager run does")
