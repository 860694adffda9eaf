"""Shared by networks on one stride-16 feature map: the backbone wrapper, RoIPool, the paper's parameters."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign, roi_pool

STRIDE = 16
LEVEL = "0"  # torchvision's name for the map of a backbone that returns one tensor
RATIOS = (0.5, 1.0, 2.0)


class SingleLevel(nn.Module):
    """A backbone of sequential layers, with the `out_channels` that `FasterRCNN` requires."""

    def __init__(self, body: nn.Sequential, out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.out_channels = out_channels

    def forward(self, pixels: Tensor) -> Tensor:
        """Canvases (B, 3, H, W) to features (B, C, H/16, W/16)."""
        features: Tensor = self.body(pixels)
        return features


class RoIPool(MultiScaleRoIAlign):  # type: ignore[misc]  # torchvision has no types, and requires this class
    """Maximum over bins of whole positions (Girshick 2015, §2.1), with the interface of the RoIAlign."""

    quantised = True

    def __init__(self, output_size: int) -> None:
        super().__init__([LEVEL], output_size, sampling_ratio=1)

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Features by level and boxes (N, 4) per image, xyxy canvas px, to (R, C, side, side)."""
        pooled: Tensor = roi_pool(x[LEVEL], boxes, self.output_size, 1 / STRIDE)
        return pooled


def roi_align(output_size: int) -> MultiScaleRoIAlign:
    """RoIAlign of the single map, with two samples per bin side as in torchvision's pyramids."""
    return MultiScaleRoIAlign([LEVEL], output_size, sampling_ratio=2)


def single_level(
    backbone: SingleLevel,
    anchor_sizes: tuple[int, ...],
    pool: MultiScaleRoIAlign,
    head: nn.Module,
    predictor: FastRCNNPredictor,
    sizes: tuple[int, int],
) -> FasterRCNN:
    """Faster R-CNN with the parameters of Ren et al. 2015.

    A position has one anchor per size (the square root of its area, px) and ratio; `sizes` are the image's
    short side and the limit of its long side, px.
    """
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator((anchor_sizes,), (RATIOS,)),
        # 300 proposals are as accurate as 2000 (their table 2); pre-NMS counts are from their code.
        rpn_pre_nms_top_n_train=12000,
        rpn_post_nms_top_n_train=2000,
        rpn_pre_nms_top_n_test=6000,
        rpn_post_nms_top_n_test=300,
        box_roi_pool=pool,
        box_head=head,
        box_predictor=predictor,
        box_batch_size_per_image=128,
        min_size=sizes[0],
        max_size=sizes[1],
    )
