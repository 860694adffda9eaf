"""The bundled network: a half-width ResNet-18 with a three-level FPN, small enough for a CPU and for git."""

from collections import OrderedDict

from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import BasicBlock
from torchvision.ops import MultiScaleRoIAlign

WIDTHS = (32, 64, 128, 256)
FPN_CHANNELS = 96
HEAD_CHANNELS = 256


def small(num_classes: int) -> FasterRCNN:
    """Faster R-CNN on `half_width_resnet18`: FPN strides 8, 16, 32 and a pooled 64; 4.4 M parameters."""
    backbone = BackboneWithFPN(
        half_width_resnet18(),
        return_layers={"layer2": "0", "layer3": "1", "layer4": "2"},
        in_channels_list=list(WIDTHS[1:]),
        out_channels=FPN_CHANNELS,
    )
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(((32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 4),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(FPN_CHANNELS * 7 * 7, HEAD_CHANNELS),
        box_predictor=FastRCNNPredictor(HEAD_CHANNELS, num_classes),
        # With few objects per scene, 300 proposals lose no recall and cost a third of torchvision's 1000.
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=300,
        box_batch_size_per_image=128,
        min_size=320,
        max_size=576,
    )


def half_width_resnet18() -> nn.Sequential:
    """ResNet-18 (He et al. 2015) with half the channels; torchvision fixes the width at 64."""
    stem = nn.Sequential(
        nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(WIDTHS[0]),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )
    layers = [("stem", stem)]
    before = WIDTHS[0]
    for index, width in enumerate(WIDTHS, start=1):
        layers.append((f"layer{index}", _layer(before, width, stride=1 if index == 1 else 2)))
        before = width
    body = nn.Sequential(OrderedDict(layers))
    _initialise(body)
    return body


def _layer(before: int, width: int, stride: int) -> nn.Sequential:
    shortcut: nn.Module | None = None
    if stride != 1 or before != width:
        shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
    return nn.Sequential(BasicBlock(before, width, stride, shortcut), BasicBlock(width, width))


def _initialise(body: nn.Module) -> None:
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
