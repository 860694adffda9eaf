"""The engine protocol: runs the dense part and the head, the parts with static computation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from models.ops.nms import Suppress

MAX_GRAPHS = 64


class Recordable(Protocol):
    """What a run returns, if it is recorded."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """Each replay writes its results into them."""

    @property
    def compared(self) -> Sequence[Tensor]:
        """What a replay must repeat, but for rounding."""


R = TypeVar("R", bound=Recordable)


@dataclass(frozen=True, eq=False)
class DenseOutput:
    """Per pyramid level: features (B, C, h, w), objectness logits (B, A, h, w), box deltas (B, 4A, h, w).

    Features may be in half precision; the others are float32.
    """

    features: list[Tensor]
    objectness: list[Tensor]
    deltas: list[Tensor]

    @property
    def tensors(self) -> list[Tensor]:
        """All levels: features, objectness, deltas."""
        return [*self.features, *self.objectness, *self.deltas]

    @property
    def compared(self) -> list[Tensor]:
        """All of it."""
        return self.tensors


class PrecisionOverflow(ValueError):
    """Weights or outputs that are not finite in half precision, and may be in fp32."""


class Record(Protocol):
    """Records runs of a function that reads and writes the same memory each time."""

    def __call__(self, run: Callable[[], R]) -> tuple[Callable[[], object], R]:
        """What replays it, and its result, which each replay overwrites. Raises RuntimeError if that fails.

        Recorded runs of one recorder must not overlap.
        """


@dataclass(frozen=True)
class Recording:
    """How the runs of an engine's device are recorded as CUDA graphs, and how many.

    `memory` tells how many bytes this process may still allocate there, and how many in all; None: no limit.
    """

    record: Record
    memory: Callable[[], tuple[int, int]] | None = None
    max_graphs: int = MAX_GRAPHS


class Engine(Protocol):
    """Runs the network's static parts on one device; inputs are floats on that device."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def suppress(self) -> Suppress: ...

    @property
    def recording(self) -> Recording | None:
        """How runs are recorded; None if they are not, as on the CPU."""

    def dense(self, pixels: Tensor) -> DenseOutput:
        """Canvases (B, 3, H, W) to feature maps and RPN outputs; the next call may overwrite them."""

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, 7, 7) to class logits (R, K) and box deltas (R, 4K), float32."""


class ServingEngine(Engine, Protocol):
    """An engine that can be instantiated again with the same weights."""

    def sibling(self) -> "ServingEngine":
        """Another engine on the same device and weights, for another thread."""


def input_type(precision: str) -> torch.dtype:
    """What canvases are converted to before the first layer, at the latest there."""
    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
