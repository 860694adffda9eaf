"""Faster R-CNN on the stride-16 map of a ResNet ("C4"), its last stage being the box head (He et al. 2015).

15 anchors per position, 32 to 512 px: the five scales of the C4 baselines in Lin et al. 2017 and He et al.
2017, as the three of VGG-16 miss COCO's small objects.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models import ResNet, resnet50, resnet101
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from models.networks.single_level import SingleLevel, roi_align, single_level

ANCHOR_SIZES = (32, 64, 128, 256, 512)
SIZES = (800, 1333)
SHARED = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
CHANNELS = 1024  # of layer3
HEAD_CHANNELS = 2048  # of layer4
SIDE = 14  # layer4 halves it


def resnet50_c4(num_classes: int) -> FasterRCNN:
    """ResNet-50 up to res4, RoIAlign 14x14, res5 per RoI; 33 M parameters."""
    return _c4(resnet50(weights=None), num_classes)


def resnet101_c4(num_classes: int) -> FasterRCNN:
    """ResNet-101 up to res4, RoIAlign 14x14, res5 per RoI; 52 M parameters."""
    return _c4(resnet101(weights=None), num_classes)


class Res5(nn.Module):
    """The ResNet's last stage on each RoI, then the mean over its positions."""

    def __init__(self, layer4: nn.Module) -> None:
        super().__init__()
        self.layer4 = layer4

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features (R, 1024, 14, 14) to (R, 2048)."""
        stage: Tensor = self.layer4(pooled)
        return stage.mean(dim=(2, 3))


def _c4(resnet: ResNet, num_classes: int) -> FasterRCNN:
    body = nn.Sequential(OrderedDict((name, resnet.get_submodule(name)) for name in SHARED))
    predictor = FastRCNNPredictor(HEAD_CHANNELS, num_classes)
    backbone = SingleLevel(body, CHANNELS)
    return single_level(backbone, ANCHOR_SIZES, roi_align(SIDE), Res5(resnet.layer4), predictor, SIZES)
