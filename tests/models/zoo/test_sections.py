"""The sections of a card: what they change in the network; defaults change nothing, not the version."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.detector import Detector, DetectorSpec, Job, load_detector
from models.images.decoder import Image
from models.networks import build_network
from models.options import Options
from models.zoo.cards import CardError, read_card
from models.zoo.configure import configure
from models.zoo.loading import load_network
from models.zoo.version import version_of
from models.zoo.weights import save_weights
from tests.support.data.networks import random_network

PLAIN = """
name = "random"
architecture = "small"
weights = "file:random.safetensors"
labels = ["background", "one", "two", "three", "four"]
score_threshold = 0.3
min_size = 128
max_size = 224
"""
DEFAULTS = """
[preprocessing]
mean = [0.485, 0.456, 0.406]
channels = "rgb"
scale = 255
[head]
class_agnostic = false
"""
BUNDLED = {"shapes": "18ef41130741", "blood-cells": "995e6e188af5"}


def write(folder: Path, sections: str = "") -> Path:
    path = folder / "random.toml"
    path.write_text(PLAIN + sections)
    return path


def detector_of(folder: Path, sections: str = "") -> Detector:
    spec = DetectorSpec(str(write(folder, sections)), folder, device="cpu", engine="torch", precision="fp32")
    return load_detector(spec)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_weights(random_network(), tmp_path / "random.safetensors", half=False)
    return tmp_path


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_models_keep_their_version(name: str, tmp_path: Path) -> None:
    loaded = load_network(name, None, tmp_path)
    assert version_of(loaded.network, loaded.card) == BUNDLED[name]


def test_a_key_at_its_default_does_not_change_the_version(folder: Path) -> None:
    plain = detector_of(folder).version
    assert detector_of(folder, DEFAULTS).version == plain
    assert detector_of(folder, '[preprocessing]\nresize = "pillow"\n').version != plain


def test_a_network_for_bgr_answers_as_one_for_rgb(folder: Path) -> None:
    """The same network, stored as it would have learned with BGR pixels."""
    image = Image(np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8), "PNG")
    expected = detect(detector_of(folder), image)
    network = random_network()
    first = network.backbone.body.stem[0]
    with torch.no_grad():
        first.weight.copy_(first.weight.flip(1).clone())
    save_weights(network, folder / "random.safetensors", half=False)
    sections = (
        '[preprocessing]\nchannels = "bgr"\nmean = [0.406, 0.456, 0.485]\nstd = [0.225, 0.224, 0.229]\n'
    )
    found = detect(detector_of(folder, sections), image)
    assert len(found.scores) > 5
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def detect(detector: Detector, image: Image) -> object:
    [found] = detector.detect([Job(detector.prepare(image), Options(0.3, 0.5, 100))])
    return found


def test_sections_configure_the_network(folder: Path) -> None:
    sections = """
    [anchors]
    sizes = [[16.0, 24.0], [32.0, 48.0], [64.0, 96.0], [128.0, 192.0]]
    ratios = [[1.0]]
    strides = [8.0, 16.0, 32.0, 64.0]
    offset = 0.5
    rounded = false
    [rpn]
    pre_nms = 77
    post_nms = 66
    nms_threshold = 0.6
    score_threshold = 0.1
    min_size = 2.0
    [head]
    class_agnostic = true
    box_weights = [1.0, 2.0, 3.0, 4.0]
    sampling_ratio = 0
    aligned = true
    """
    network = configure(build_network("small", 5), read_card(write(folder, sections))).eval()
    rpn, heads = network.rpn, network.roi_heads
    assert rpn.head.cls_logits.out_channels == 2
    [first, *_] = rpn.anchor_generator.grid_anchors([[1, 2]] + [[1, 1]] * 3, [])
    assert first.tolist() == [[-4, -4, 12, 12], [-8, -8, 16, 16], [4, -4, 20, 12], [0, -8, 24, 16]]
    assert (rpn.pre_nms_top_n(), rpn.post_nms_top_n()) == (77, 66)
    assert (rpn.nms_thresh, rpn.score_thresh, rpn.min_size) == (0.6, 0.1, 2.0)
    assert heads.box_coder.weights == (1.0, 2.0, 3.0, 4.0)
    assert (heads.box_roi_pool.sampling_ratio, heads.box_roi_pool.aligned) == (0, True)
    scores, deltas = heads.box_predictor(torch.randn(3, 256))
    assert (scores.shape, deltas.shape) == ((3, 5), (3, 20))
    assert torch.equal(deltas[:, :4], deltas[:, 16:])


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("[anchors]\nsizes = [[32.0]]\n", r"\[anchors\] sizes has 1 levels, the architecture has 4"),
        ("[anchors]\nstrides = [4.0, 8.0]\n", r"\[anchors\] strides has 2 levels"),
        ("[preprocessing]\nscale = 2\n", r"preprocessing\.scale: .*1 or 255"),
        ('[preprocessing]\nresize = "bicubic"\n', r"preprocessing\.resize: .*torch"),
        ("[head]\nbox_weight = [1.0]\n", r"head\.box_weight: .*not permitted"),
    ],
)
def test_a_wrong_section_is_refused(folder: Path, sections: str, message: str) -> None:
    with pytest.raises(CardError, match=message):
        detector_of(folder, sections)
