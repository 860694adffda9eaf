"""Faster R-CNN on MobileNetV2, as torchvision's tutorial on custom backbones builds it."""

from torchvision.models import mobilenet_v2 as classifier
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from models.networks.single_level import LEVEL, RATIOS

CHANNELS = 1280
ANCHOR_SIZES = (32, 64, 128, 256, 512)


def mobilenet_v2(num_classes: int) -> FasterRCNN:
    """The classifier's features of stride 32, 15 anchors per position, RoIAlign 7x7; 83 M parameters."""
    backbone = classifier(weights=None).features
    backbone.out_channels = CHANNELS
    return FasterRCNN(
        backbone,
        num_classes,
        rpn_anchor_generator=AnchorGenerator((ANCHOR_SIZES,), (RATIOS,)),
        box_roi_pool=MultiScaleRoIAlign([LEVEL], 7, 2),
    )
