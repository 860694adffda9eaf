"""What an engine is: the dense part and the head, and nothing that depends on the image's content."""

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


class Engine(Protocol):
    """Runs the network's static parts on one device; tensors in and out lie on that device, in float32."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def suppress(self) -> Suppress: ...

    def get_ready(self, batch: int, canvas: tuple[int, int]) -> None:
        """Prepare for batches of so many canvases (height, width); answers are the same without it."""

    def dense(self, pixels: Tensor) -> DenseOutput:
        """Canvases (B, 3, H, W) to feature maps and RPN outputs, which the next call may overwrite."""

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, 7, 7) to class logits (R, K) and box deltas (R, 4K)."""


class ServingEngine(Engine, Protocol):
    """An engine of which there can be several with the same weights."""

    def sibling(self) -> "ServingEngine":
        """One more on the same device and weights, for another thread."""
