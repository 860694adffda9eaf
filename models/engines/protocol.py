"""The engine protocol: runs the dense part and the head, the parts with static computation."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from models.ops.nms import Suppress


@dataclass(frozen=True, eq=False)
class DenseOutput:
    """Per pyramid level: features (B, C, h, w), objectness logits (B, A, h, w), box deltas (B, 4A, h, w)."""

    features: list[Tensor]
    objectness: list[Tensor]
    deltas: list[Tensor]


class PrecisionOverflow(ValueError):
    """Weights or outputs that are not finite in half precision, and may be in fp32."""


class Engine(Protocol):
    """Runs the network's static parts on one device; inputs and outputs are float32 on that device."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def suppress(self) -> Suppress: ...

    def get_ready(self, batch: int, canvas: tuple[int, int]) -> None:
        """Prepare for that batch size and canvas (height, width); outputs are the same without it."""

    def dense(self, pixels: Tensor) -> DenseOutput:
        """Canvases (B, 3, H, W) to feature maps and RPN outputs; the next call may overwrite them."""

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, 7, 7) to class logits (R, K) and box deltas (R, 4K)."""


class ServingEngine(Engine, Protocol):
    """An engine that can be instantiated again with the same weights."""

    def sibling(self) -> "ServingEngine":
        """Another engine on the same device and weights, for another thread."""
