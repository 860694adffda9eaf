"""Faster R-CNN on the stride-16 map of a ResNet: "C4", whose last stage is the box head, and "DC5".

C4 is of He et al. 2015; DC5 dilates the last stage, so that its map has stride 16 too, and has two fully
connected layers as the box head. 15 anchors per position, 32 to 512 px: the five scales of the C4 baselines
in Lin et al. 2017 and He et al. 2017, as the three of VGG-16 miss COCO's small objects.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from models.networks.resnet_variants import Builder, dilate
from models.networks.single_level import SingleLevel, roi_align, single_level

ANCHOR_SIZES = (32, 64, 128, 256, 512)
SIZES = (800, 1333)
SHARED = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
CHANNELS = 1024  # of layer3
HEAD_CHANNELS = 2048  # of layer4
SIDE = 14  # layer4 halves it
DC5_SIDE, DC5_WIDTH = 7, 1024


class Res5(nn.Module):
    """The ResNet's last stage on each RoI, then the mean over its positions."""

    def __init__(self, layer4: nn.Module) -> None:
        super().__init__()
        self.layer4 = layer4

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features (R, 1024, 14, 14) to (R, 2048)."""
        stage: Tensor = self.layer4(pooled)
        return stage.mean(dim=(2, 3))


def resnet_c4(build: Builder, num_classes: int) -> FasterRCNN:
    """ResNet up to res4, RoIAlign 14x14, res5 per RoI; 33 M parameters with ResNet-50, 52 M with 101."""
    resnet = build()
    body = nn.Sequential(OrderedDict((name, resnet.get_submodule(name)) for name in SHARED))
    predictor = FastRCNNPredictor(HEAD_CHANNELS, num_classes)
    backbone = SingleLevel(body, CHANNELS)
    return single_level(backbone, ANCHOR_SIZES, roi_align(SIDE), Res5(resnet.layer4), predictor, SIZES)


def resnet_dc5(build: Builder, num_classes: int) -> FasterRCNN:
    """ResNet with a dilated res5, RoIAlign 7x7, two layers of 1024; 166 M parameters with ResNet-50."""
    resnet = build()
    dilate(resnet.layer4)
    body = nn.Sequential(OrderedDict((name, resnet.get_submodule(name)) for name in (*SHARED, "layer4")))
    head = TwoMLPHead(HEAD_CHANNELS * DC5_SIDE**2, DC5_WIDTH)
    predictor = FastRCNNPredictor(DC5_WIDTH, num_classes)
    backbone = SingleLevel(body, HEAD_CHANNELS)
    return single_level(backbone, ANCHOR_SIZES, roi_align(DC5_SIDE), head, predictor, SIZES)
