"""Where an ImageNet classifier's weights go in our networks: the pretrained start of a training."""

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

# Layers of the classifier that work on each RoI here: their prefix there -> their prefix in our state dict.
_FC = {"classifier.0.": "roi_heads.box_head.fc6.", "classifier.3.": "roi_heads.box_head.fc7."}
_RES5 = {"layer4.": "roi_heads.box_head.layer4."}
HEAD_WEIGHTS: dict[str, dict[str, str]] = {
    "vgg16": _FC,
    "vgg16_roi_pool": _FC,
    "resnet50_c4": _RES5,
    "resnet101_c4": _RES5,
}

TRUNK = "features."  # what VGG and MobileNet call their convolutions; a ResNet's lie at the top
OUTPUTS = ("classifier.", "fc.")  # layers that answer for ImageNet's classes


def pretrained_state(architecture: str, classifier: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The classifier's state under the names of `architecture`, without its output layers.

    A part of the network's state: the rest (RPN, pyramid, predictor) starts at random. Raises ValueError.
    """
    if architecture not in BACKBONE_WEIGHTS:
        known = ", ".join(sorted(BACKBONE_WEIGHTS))
        raise ValueError(f"no ImageNet weights exist for {architecture!r}; they do for: {known}")
    named = ((_name(architecture, name), tensor) for name, tensor in classifier.items())
    return {name: tensor for name, tensor in named if name is not None}


def _name(architecture: str, name: str) -> str | None:
    """Our name of a classifier's tensor, None where it has no place."""
    for layer, home in HEAD_WEIGHTS.get(architecture, {}).items():
        if name.startswith(layer):
            return home + name.removeprefix(layer)
    if name.startswith(OUTPUTS):
        return None
    return BACKBONE_WEIGHTS[architecture][1] + name.removeprefix(TRUNK)
