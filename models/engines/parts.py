"""The two static parts of a torchvision `FasterRCNN`, which an engine runs or compiles."""

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

DenseLevels = tuple[list[Tensor], list[Tensor], list[Tensor]]


class DensePart(nn.Module):
    """Backbone, pyramid and RPN head: about 90 % of the arithmetic."""

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.rpn_head = network.rpn.head

    def forward(self, pixels: Tensor) -> DenseLevels:
        """Canvases (B, 3, H, W) to features, objectness and deltas, each a list of levels."""
        features = self.backbone(pixels)
        levels = [features] if isinstance(features, Tensor) else list(features.values())
        objectness, deltas = self.rpn_head(levels)
        return levels, objectness, deltas


class HeadPart(nn.Module):
    """Box head and predictor."""

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.box_head = network.roi_heads.box_head
        self.box_predictor = network.roi_heads.box_predictor

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, side, side) to class logits (R, K) and box deltas (R, 4K)."""
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return logits, deltas
