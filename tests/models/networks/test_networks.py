"""Every architecture builds as published, and takes an ImageNet classifier's weights."""

import math

import pytest
import torch
from torchvision.models import get_model, get_weight

from models.networks import ARCHITECTURES, BACKBONE_WEIGHTS, build_network, pretrained_state

pytestmark = pytest.mark.network

OWN_HEAD = ("vgg16", "vgg16_roi_pool", "resnet50_c4", "resnet101_c4")  # a classifier's layers work per RoI


def test_small_is_small_enough_to_bundle() -> None:
    parameters = sum(p.numel() for p in build_network("small", 9).parameters())
    assert parameters * 2 < 10_000_000, "float16 on disk must stay under 10 MB"


@pytest.mark.parametrize("num_classes", [-1, 0, 1])
def test_the_background_counts_as_a_class(num_classes: int) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        build_network("small", num_classes)


@pytest.mark.parametrize(
    ("architecture", "scales", "width"),
    [
        ("vgg16", {128, 256, 512}, 4096),
        ("vgg16_roi_pool", {128, 256, 512}, 4096),
        ("resnet50_c4", {32, 64, 128, 256, 512}, 2048),
        ("resnet101_c4", {32, 64, 128, 256, 512}, 2048),
    ],
)
def test_single_maps_are_as_published(architecture: str, scales: set[int], width: int) -> None:
    network = build_network(architecture, 5).eval()
    with torch.inference_mode():
        features = network.backbone(torch.zeros(1, 3, 64, 96))
        (objectness,), (deltas,) = network.rpn.head([features])
    assert features.shape == (1, network.backbone.out_channels, 4, 6), "the stride is 16"
    (anchors,) = network.rpn.anchor_generator.cell_anchors or [torch.empty(0, 4)]
    assert (objectness.shape[1], deltas.shape[1]) == (len(anchors), 4 * len(anchors))
    sides = anchors[:, 2:] - anchors[:, :2]
    areas = sorted(side.prod().sqrt().item() for side in sides)
    assert areas == pytest.approx(sorted([*scales] * 3), rel=0.02)
    assert {round(math.log2(height / width)) for width, height in sides.tolist()} == {-1, 0, 1}
    assert network.roi_heads.box_predictor.cls_score.in_features == width
    assert network.rpn.post_nms_top_n() == 300


@pytest.mark.parametrize("architecture", list(BACKBONE_WEIGHTS))
def test_an_imagenet_classifier_fits_by_name_and_shape(architecture: str) -> None:
    weights, prefix = BACKBONE_WEIGHTS[architecture]
    builder = type(get_weight(weights)).__name__.removesuffix("_Weights").lower()
    with torch.device("meta"):  # names and shapes, but no numbers
        classifier = get_model(builder, weights=None).state_dict()
        network = build_network(architecture, 5).state_dict()
    pretrained = pretrained_state(architecture, classifier)
    assert {name: tensor.shape for name, tensor in pretrained.items()} == {
        name: network[name].shape for name in pretrained
    }
    pretrained_layers = (prefix, "roi_heads.box_head.") if architecture in OWN_HEAD else (prefix,)
    assert set(pretrained) == {name for name in network if name.startswith(pretrained_layers)}
    assert len(classifier) - len(pretrained) == (4 if architecture.startswith("mobilenet") else 2)


def test_networks_without_an_imagenet_classifier_are_named() -> None:
    assert set(BACKBONE_WEIGHTS) < set(ARCHITECTURES) - {"small"}
    with pytest.raises(ValueError, match=r"'small'.*resnet50_fpn.*vgg16"):
        pretrained_state("small", {})
