"""Maps an ImageNet classifier's weights to our networks, for training from a pretrained backbone."""

from collections.abc import Mapping

from torch import Tensor

# architecture -> (torchvision's classification weights, prefix of the backbone in our state dict)
BACKBONE_WEIGHTS: dict[str, tuple[str, str]] = {
    "vgg16": ("VGG16_Weights.IMAGENET1K_V1", "backbone.body."),
    "vgg16_roi_pool": ("VGG16_Weights.IMAGENET1K_V1", "backbone.body."),
    "resnet50_c4": ("ResNet50_Weights.IMAGENET1K_V1", "backbone.body."),
    "resnet101_c4": ("ResNet101_Weights.IMAGENET1K_V1", "backbone.body."),
    "resnet50_fpn": ("ResNet50_Weights.IMAGENET1K_V1", "backbone.body."),
    "resnet50_fpn_v2": ("ResNet50_Weights.IMAGENET1K_V1", "backbone.body."),
    "resnet101_fpn": ("ResNet101_Weights.IMAGENET1K_V1", "backbone.body."),
    "mobilenet_v3_large_fpn": ("MobileNet_V3_Large_Weights.IMAGENET1K_V1", "backbone.body."),
    "mobilenet_v3_large_320_fpn": ("MobileNet_V3_Large_Weights.IMAGENET1K_V1", "backbone.body."),
}

# Classifier layers that our networks apply to each RoI: their prefix there -> in our state dict.
_FC = {"classifier.0.": "roi_heads.box_head.fc6.", "classifier.3.": "roi_heads.box_head.fc7."}
_RES5 = {"layer4.": "roi_heads.box_head.layer4."}
HEAD_WEIGHTS: dict[str, dict[str, str]] = {
    "vgg16": _FC,
    "vgg16_roi_pool": _FC,
    "resnet50_c4": _RES5,
    "resnet101_c4": _RES5,
}

TRUNK = "features."  # prefix of the convolutions of VGG and MobileNet; those of a ResNet have none
OUTPUTS = ("classifier.", "fc.")  # output layers for ImageNet's classes


def pretrained_state(architecture: str, classifier: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The classifier's state under the names of `architecture`, without its output layers.

    Covers part of the network; RPN, pyramid and predictor start at random. Raises ValueError.
    """
    if architecture not in BACKBONE_WEIGHTS:
        known = ", ".join(sorted(BACKBONE_WEIGHTS))
        raise ValueError(f"no ImageNet weights exist for {architecture!r}; they do for: {known}")
    named = ((_name(architecture, name), tensor) for name, tensor in classifier.items())
    return {name: tensor for name, tensor in named if name is not None}


def _name(architecture: str, name: str) -> str | None:
    """Our name of a classifier's tensor, None if our network has no such tensor."""
    for layer, prefix in HEAD_WEIGHTS.get(architecture, {}).items():
        if name.startswith(layer):
            return prefix + name.removeprefix(layer)
    if name.startswith(OUTPUTS):
        return None
    return BACKBONE_WEIGHTS[architecture][1] + name.removeprefix(TRUNK)
