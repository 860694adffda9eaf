"""The table of architectures by name. A new network is one line here."""

from collections.abc import Callable
from functools import partial

from torchvision.models.detection import (
    FasterRCNN,
    fasterrcnn_mobilenet_v3_large_320_fpn,
    fasterrcnn_mobilenet_v3_large_fpn,
    fasterrcnn_resnet50_fpn,
    fasterrcnn_resnet50_fpn_v2,
)

from models.networks.c4 import resnet_c4, resnet_dc5
from models.networks.fpn import resnet_fpn
from models.networks.mobilenet import mobilenet_v2
from models.networks.resnet_variants import caffe, plain, resnext
from models.networks.small import small
from models.networks.vgg import vgg16, vgg16_roi_pool

Builder = Callable[[int], FasterRCNN]
DEPTH_50, DEPTH_101 = (3, 4, 6, 3), (3, 4, 23, 3)


def _torchvision(builder: Callable[..., FasterRCNN]) -> Builder:
    # Both must be None, otherwise torchvision downloads the backbone.
    return lambda num_classes: builder(weights=None, weights_backbone=None, num_classes=num_classes)


ARCHITECTURES: dict[str, Builder] = {
    "vgg16": vgg16,
    "vgg16_roi_pool": vgg16_roi_pool,
    "mobilenet_v2": mobilenet_v2,
    "resnet50_c4": partial(resnet_c4, plain("resnet50")),
    "resnet101_c4": partial(resnet_c4, plain("resnet101")),
    "resnet50_caffe_c4": partial(resnet_c4, caffe("resnet50")),
    "resnet101_caffe_c4": partial(resnet_c4, caffe("resnet101")),
    "resnet50_dc5": partial(resnet_dc5, plain("resnet50")),
    "resnet101_dc5": partial(resnet_dc5, plain("resnet101")),
    "resnet50_caffe_dc5": partial(resnet_dc5, caffe("resnet50")),
    "resnet101_caffe_dc5": partial(resnet_dc5, caffe("resnet101")),
    "resnet18_fpn": partial(resnet_fpn, plain("resnet18")),
    "resnet34_fpn": partial(resnet_fpn, plain("resnet34")),
    "resnet50_fpn": _torchvision(fasterrcnn_resnet50_fpn),
    "resnet50_fpn_v2": _torchvision(fasterrcnn_resnet50_fpn_v2),
    "resnet101_fpn": partial(resnet_fpn, plain("resnet101")),
    "resnet152_fpn": partial(resnet_fpn, plain("resnet152")),
    "resnet50_caffe_fpn": partial(resnet_fpn, caffe("resnet50")),
    "resnet101_caffe_fpn": partial(resnet_fpn, caffe("resnet101")),
    "resnext50_32x4d_fpn": partial(resnet_fpn, resnext(DEPTH_50, 32, 4)),
    "resnext101_32x4d_fpn": partial(resnet_fpn, resnext(DEPTH_101, 32, 4)),
    "resnext101_32x8d_fpn": partial(resnet_fpn, resnext(DEPTH_101, 32, 8)),
    "resnext101_64x4d_fpn": partial(resnet_fpn, resnext(DEPTH_101, 64, 4)),
    "mobilenet_v3_large_fpn": _torchvision(fasterrcnn_mobilenet_v3_large_fpn),
    "mobilenet_v3_large_320_fpn": _torchvision(fasterrcnn_mobilenet_v3_large_320_fpn),
    "small": small,
}


def build_network(architecture: str, num_classes: int) -> FasterRCNN:
    """Build a randomly initialised Faster R-CNN; `num_classes` counts the background as class 0."""
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ValueError(f"unknown architecture {architecture!r}; choose one of: {known}")
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; it counts the background, so it must be at least 2")
    return ARCHITECTURES[architecture](num_classes)
