"""Faster R-CNN on feature pyramids (Lin et al. 2017) for which torchvision has parts but no builder."""

from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

ALL_LAYERS = 5


def resnet101_fpn(num_classes: int) -> FasterRCNN:
    """ResNet-101 with a pyramid of strides 4 to 64; otherwise as torchvision's `fasterrcnn_resnet50_fpn`."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet101", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=ALL_LAYERS
    )
    return FasterRCNN(backbone, num_classes)
