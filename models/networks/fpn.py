"""Faster R-CNN on feature pyramids (Lin et al. 2017) for which torchvision has parts but no builder."""

from torchvision.models import ResNet
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from models.networks.resnet_variants import Builder

STAGES = ("layer1", "layer2", "layer3", "layer4")
PYRAMID_CHANNELS = 256


def resnet_fpn(build: Builder, num_classes: int) -> FasterRCNN:
    """A ResNet with a pyramid of strides 4 to 64; otherwise as torchvision's `fasterrcnn_resnet50_fpn`."""
    return FasterRCNN(_pyramid(build()), num_classes)


def _pyramid(resnet: ResNet) -> BackboneWithFPN:
    """Level k of the pyramid is named "k", as `resnet_fpn_backbone` names it."""
    deepest = resnet.inplanes // 8
    return BackboneWithFPN(
        resnet,
        return_layers={stage: str(level) for level, stage in enumerate(STAGES)},
        in_channels_list=[deepest * 2**level for level in range(len(STAGES))],
        out_channels=PYRAMID_CHANNELS,
    )
