"""The two static parts of a torchvision `FasterRCNN`, which an engine runs or compiles."""

import copy

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import TwoMLPHead

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


class HeadNHWC(nn.Module):
    """The head for pooled features with the channels last, which linear layers then need not transpose."""

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.part = HeadPart(network)
        side = network.roi_heads.box_roi_pool.output_size[0]
        self._flattens = isinstance(self.part.box_head, TwoMLPHead)
        if self._flattens:
            self.part.box_head = _flattening_nhwc(self.part.box_head, network.backbone.out_channels, side)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, side, side, C) to class logits (R, K) and box deltas (R, 4K)."""
        logits, deltas = self.part(pooled if self._flattens else pooled.permute(0, 3, 1, 2))
        return logits, deltas


def _flattening_nhwc(head: TwoMLPHead, channels: int, side: int) -> TwoMLPHead:
    """The head with its first layer's weights reordered to read (side, side, C) without a transpose."""
    head = copy.deepcopy(head)
    outputs = len(head.fc6.weight)
    weight = head.fc6.weight.view(outputs, channels, side, side).permute(0, 2, 3, 1)
    head.fc6.weight = nn.Parameter(weight.reshape(outputs, -1), requires_grad=False)
    return head
