"""Every architecture builds, with the parameter names of torchvision's published weights."""

import pytest
import torch
from torchvision.models import detection

from models.networks import ARCHITECTURES, build_network

TORCHVISION = {
    "resnet50_fpn": detection.fasterrcnn_resnet50_fpn,
    "resnet50_fpn_v2": detection.fasterrcnn_resnet50_fpn_v2,
    "mobilenet_v3_large_fpn": detection.fasterrcnn_mobilenet_v3_large_fpn,
    "mobilenet_v3_large_320_fpn": detection.fasterrcnn_mobilenet_v3_large_320_fpn,
}


@pytest.mark.parametrize("architecture", list(TORCHVISION))
def test_torchvisions_state_fits_unchanged(architecture: str) -> None:
    published = TORCHVISION[architecture](weights=None, weights_backbone=None, num_classes=91).state_dict()
    network = build_network(architecture, 91)
    network.load_state_dict(published)
    assert all(torch.equal(value, published[name]) for name, value in network.state_dict().items())


def test_small_is_small_enough_to_bundle() -> None:
    parameters = sum(p.numel() for p in build_network("small", 9).parameters())
    assert parameters * 2 < 10_000_000, "float16 on disk must stay under 10 MB"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"resnet18_fpn.*resnet50_fpn"):
        build_network("resnet18_fpn", 5)


@pytest.mark.parametrize("num_classes", [-1, 0, 1])
def test_the_background_counts_as_a_class(num_classes: int) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        build_network("small", num_classes)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_an_untrained_network_answers(architecture: str) -> None:
    torch.manual_seed(0)
    network = build_network(architecture, 4).eval()
    network.transform.min_size, network.transform.max_size = (96,), 128
    with torch.inference_mode():
        (answer,) = network([torch.rand(3, 96, 128)])
    assert set(answer) == {"boxes", "labels", "scores"}
