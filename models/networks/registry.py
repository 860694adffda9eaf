"""The table of architectures by name. A new network is one line here."""

from collections.abc import Callable

from torchvision.models.detection import (
    FasterRCNN,
    fasterrcnn_mobilenet_v3_large_320_fpn,
    fasterrcnn_mobilenet_v3_large_fpn,
    fasterrcnn_resnet50_fpn,
    fasterrcnn_resnet50_fpn_v2,
)

from models.networks.c4 import resnet50_c4, resnet101_c4
from models.networks.fpn import resnet101_fpn
from models.networks.small import small
from models.networks.vgg import vgg16, vgg16_roi_pool

Builder = Callable[[int], FasterRCNN]


def _torchvision(builder: Callable[..., FasterRCNN]) -> Builder:
    # Both must be None, otherwise torchvision downloads the backbone.
    return lambda num_classes: builder(weights=None, weights_backbone=None, num_classes=num_classes)


ARCHITECTURES: dict[str, Builder] = {
    "vgg16": vgg16,
    "vgg16_roi_pool": vgg16_roi_pool,
    "resnet50_c4": resnet50_c4,
    "resnet101_c4": resnet101_c4,
    "resnet50_fpn": _torchvision(fasterrcnn_resnet50_fpn),
    "resnet50_fpn_v2": _torchvision(fasterrcnn_resnet50_fpn_v2),
    "resnet101_fpn": resnet101_fpn,
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
