"""Changes of a built network to what another library computes: anchors, encoding of boxes, RoIAlign, head."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.rpn import RPNHead

Sizes = tuple[tuple[float, ...], ...]
AnchorOrder = Literal["ratio", "size"]
GROWTH_LIMIT = math.log(1000.0 / 16)  # of the logarithm of a box's change of size; in all three libraries


class GridAnchors(AnchorGenerator):  # type: ignore[misc]  # torchvision has no types
    """Anchors with the strides, the offset, the rounding and the order of another library."""

    def __init__(
        self,
        sizes: Sizes,
        ratios: Sizes,
        *,
        strides: Sequence[float] | None,
        offset: float,
        rounded: bool,
        order: AnchorOrder,
    ) -> None:
        nn.Module.__init__(self)
        self.sizes, self.aspect_ratios = sizes, ratios
        self.strides, self.offset = strides, offset
        self.cell_anchors = [_cell(*level, rounded, order) for level in zip(sizes, ratios, strict=True)]

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        """The anchors (A, 4) of each level, xyxy canvas px; `strides` only if it has none of its own."""
        steps: Sequence[Sequence[float | Tensor]] = strides
        if self.strides is not None:
            steps = [(stride, stride) for stride in self.strides]
        anchors = []
        for (height, width), (down, across), cell in zip(grid_sizes, steps, self.cell_anchors, strict=True):
            y = (torch.arange(height, device=cell.device) + self.offset) * down
            x = (torch.arange(width, device=cell.device) + self.offset) * across
            y, x = (side.reshape(-1) for side in torch.meshgrid(y, x, indexing="ij"))
            shifts = torch.stack((x, y, x, y), dim=1).to(cell.dtype)
            anchors.append((shifts[:, None] + cell).reshape(-1, 4))
        return anchors


def _cell(sizes: Sequence[float], ratios: Sequence[float], rounded: bool, order: AnchorOrder) -> Tensor:
    """The anchors of one position (A, 4), around 0."""
    size, root = torch.tensor(sizes), torch.tensor(ratios).sqrt()
    pairs = (size[:, None], root[None]) if order == "size" else (size[None], root[:, None])
    width, height = ((pairs[0] * factor).reshape(-1) for factor in (1 / pairs[1], pairs[1]))
    cell = torch.stack([-width, -height, width, height], dim=1) / 2
    return cell.round() if rounded else cell


class SymmetricCoder(BoxCoder):  # type: ignore[misc]  # torchvision has no types
    """Limits how much a box shrinks, too, as mmdetection does."""

    def limit(self, deltas: Tensor) -> Tensor:
        """Encodings (..., 4 * n) of boxes that shrink no more than the limit; read by `box_coding.decode`."""
        lower = torch.tensor(
            [-math.inf, -math.inf, *(-self.bbox_xform_clip * weight for weight in self.weights[2:])],
            device=deltas.device,
        )
        return torch.maximum(deltas, lower.to(deltas.dtype).repeat(deltas.shape[-1] // 4))

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Boxes (N, 4) from their encoding and the boxes that it refers to."""
        decoded: Tensor = super().decode_single(self.limit(rel_codes), boxes)
        return decoded


def coder(weights: tuple[float, float, float, float], both: bool) -> BoxCoder:
    """The encoding of boxes with these weights."""
    return (SymmetricCoder if both else BoxCoder)(weights, GROWTH_LIMIT)


def set_anchors(network: FasterRCNN, anchors: GridAnchors) -> None:
    """Give the network these anchors, and an RPN head for as many a position if it has another number."""
    counts = set(anchors.num_anchors_per_location())
    if len(counts) > 1:
        raise ValueError("every level must have as many anchors: one head of the RPN answers for all of them")
    [count] = counts
    network.rpn.anchor_generator = anchors
    if count != network.rpn.head.cls_logits.out_channels:
        convolutions = len(network.rpn.head.conv)
        channels = network.backbone.out_channels
        network.rpn.head = RPNHead(channels, count, conv_depth=convolutions)


class AgnosticPredictor(FastRCNNPredictor):  # type: ignore[misc]  # torchvision has no types
    """A box predictor with one box per RoI for all classes."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(channels, num_classes)
        self.bbox_pred = nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Box features (R, C) to logits (R, K) and deltas (R, 4K), the same for each class."""
        scores, deltas = super().forward(x)
        return scores, deltas.repeat(1, scores.shape[1])


def set_class_agnostic(network: FasterRCNN) -> None:
    """Replace the box predictor by one with a single box for all classes."""
    scores = network.roi_heads.box_predictor.cls_score
    network.roi_heads.box_predictor = AgnosticPredictor(scores.in_features, scores.out_features)


def flip_input_channels(network: FasterRCNN) -> None:
    """Let a network that learned with BGR pixels take RGB: reverse its first convolution's inputs."""
    first = next(module for module in network.backbone.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        first.weight.copy_(first.weight.flip(1).clone())
