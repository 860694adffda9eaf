"""The torch engine: eager modules on the CPU or a CUDA device, channels last, autocast where it pays."""

from collections.abc import Iterable
from copy import copy

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from models.engines.parts import DensePart, HeadPart
from models.engines.protocol import DenseOutput
from models.suppression import torchvision_nms

AUTOCAST = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchEngine:
    """Runs a network's parts with torch; `precision` fp16 and bf16 mean autocast on CUDA."""

    name = "torch"
    suppress = staticmethod(torchvision_nms)

    def __init__(self, network: FasterRCNN, device: torch.device, precision: str) -> None:
        self.device = str(device)
        self.precision = precision
        self._autocast = AUTOCAST[precision]
        self._dense = DensePart(network).eval().to(device).to(memory_format=torch.channels_last)
        self._head = HeadPart(network).eval().to(device)

    def sibling(self) -> "TorchEngine":
        """One more on the same modules, for another thread: they keep nothing between calls."""
        return copy(self)

    def dense(self, pixels: Tensor) -> DenseOutput:
        """Canvases (B, 3, H, W) to feature maps and RPN outputs."""
        with self._precision():
            features, objectness, deltas = self._dense(pixels)
        return DenseOutput(_float(features), _float(objectness), _float(deltas))

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, 7, 7) to class logits (R, K) and box deltas (R, 4K)."""
        with self._precision():
            logits, deltas = self._head(pooled)
        return logits.float(), deltas.float()

    def _precision(self) -> torch.autocast:
        kind = torch.device(self.device).type
        return torch.autocast(kind, self._autocast, enabled=self._autocast is not None)


def _float(levels: Iterable[Tensor]) -> list[Tensor]:
    return [level.float() for level in levels]
