"""Faster R-CNN on VGG-16 as in Ren et al. 2015: conv5_3, 9 anchors per position, fc6 and fc7 per RoI."""

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.vgg import cfgs, make_layers
from torchvision.ops import MultiScaleRoIAlign

from models.networks.single_level import RoIPool, SingleLevel, roi_align, single_level

ANCHOR_SIZES = (128, 256, 512)
SIZES = (600, 1000)
CHANNELS = 512
SIDE = 7
WIDTH = 4096


def vgg16(num_classes: int) -> FasterRCNN:
    """VGG-16 with RoIAlign instead of the paper's RoIPool; 137 M parameters, most of them in fc6."""
    return _vgg16(num_classes, roi_align(SIDE))


def vgg16_roi_pool(num_classes: int) -> FasterRCNN:
    """VGG-16 with RoIPool, as published; its parameters have the names and shapes of `vgg16`."""
    return _vgg16(num_classes, RoIPool(SIDE))


class FullyConnected(nn.Module):
    """fc6 and fc7 of VGG-16 with dropout (Simonyan & Zisserman 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc6 = nn.Linear(CHANNELS * SIDE**2, WIDTH)
        self.fc7 = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.5)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled features (R, 512, 7, 7) to (R, 4096)."""
        hidden = self.dropout(F.relu(self.fc6(pooled.flatten(1))))
        output: Tensor = self.dropout(F.relu(self.fc7(hidden)))
        return output


def _vgg16(num_classes: int, pool: MultiScaleRoIAlign) -> FasterRCNN:
    body = make_layers(cfgs["D"])[:-1]  # without pool5: conv5_3 keeps stride 16
    for module in body:
        if isinstance(module, nn.Conv2d):  # without norms, the signal vanishes with torch's default
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    backbone = SingleLevel(body, CHANNELS)
    predictor = FastRCNNPredictor(WIDTH, num_classes)
    return single_level(backbone, ANCHOR_SIZES, pool, FullyConnected(), predictor, SIZES)
