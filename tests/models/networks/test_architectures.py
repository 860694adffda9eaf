"""Every architecture by name: it learns, and with reloaded weights answers as torchvision does."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.resnet import BasicBlock, Bottleneck

from models.detector import Detector
from models.engines import EngineChoice, build_engine
from models.images.decoder import Image
from models.networks import ARCHITECTURES, build_network
from models.zoo.loading import load_network
from tests.support.data.cards import write_model
from tests.support.data.networks import LABELS, USUAL, detect, matches, torchvision_detections

pytestmark = pytest.mark.network
SMALL = (64, 96)  # px; the smallest short side a card may name, as the ResNets are heavy
LARGER = (96, 144)  # for VGG-16, whose smallest anchor is 128 px
SHAPES = [(120, 160), (160, 120), (333, 500)]
PROPOSALS = 40  # per image where both sides can be told so; a ResNet's last stage takes each by itself
ROIS = 8  # sampled per training image; the ground truth is one of the proposals they are drawn from
LOGIT_SPREAD = 3.0
# The second engine takes one of each kind: conversion is most of its time, and grows with the network.
CONVERTED = ("vgg16_roi_pool", "resnet50_c4", "resnet50_fpn_v2", "mobilenet_v3_large_320_fpn", "small")
HEAVY = ("vgg16", "vgg16_roi_pool", "resnet50_c4", "resnet50_fpn_v2")
# Made of parts that others in the tests have too: blocks, groups and width of the first, and the convolution
# that strides (Caffe's: the first of a block). These are built, and not trained.
COMBINED = {
    "resnet34_fpn": (16, 1, 64, "conv1"),
    **dict.fromkeys(("resnet50_caffe_c4", "resnet50_caffe_dc5"), (16, 1, 64, "conv1")),
    **dict.fromkeys(("resnet101_c4", "resnet101_dc5", "resnet101_fpn"), (33, 1, 64, "conv2")),
    **dict.fromkeys(
        ("resnet101_caffe_c4", "resnet101_caffe_dc5", "resnet101_caffe_fpn"), (33, 1, 64, "conv1")
    ),
    "resnet152_fpn": (50, 1, 64, "conv2"),
    "resnext101_32x4d_fpn": (33, 32, 128, "conv2"),
    "resnext101_32x8d_fpn": (33, 32, 256, "conv2"),
    "resnext101_64x4d_fpn": (33, 64, 256, "conv2"),
}
MATCHED = 0.97  # a few lie on a threshold, on NMS's edge or on RoIPool's grid to within rounding
RATE = 3e-5  # of AdamW, whose first step is this much in each weight: small enough for 100 layers at random


@dataclass(frozen=True, eq=False)
class Specimen:
    """An architecture after one training step: the loss before and after, the network, its card on disk."""

    architecture: str
    network: FasterRCNN
    before: float
    after: float
    card: Path


def scene(number: int, shape: tuple[int, int]) -> Image:
    """Large random tiles: structure that every size of the same picture has, so that norms fit them all."""
    tiles = np.random.default_rng(number).integers(0, 256, (8, 12, 3), np.uint8)
    rows, columns = (np.arange(side) * count // side for side, count in zip(shape, tiles.shape, strict=False))
    return Image(np.ascontiguousarray(tiles[rows][:, columns]), "PNG")


def training_images(network: FasterRCNN, first: int = 100) -> list[Tensor]:
    """Two scenes (3, H, W) in 0..1, of a size that is not changed."""
    shape = network.transform.min_size[0], network.transform.max_size
    return [torch.from_numpy(scene(k, shape).pixels).permute(2, 0, 1) / 255 for k in (first, first + 1)]


def loss(network: FasterRCNN, first: int = 100) -> Tensor:
    """The multi-task loss on two images, with the same anchors and dropout drawn each time."""
    torch.manual_seed(5)
    images = training_images(network, first)
    height, width = images[0].shape[1:]
    part = torch.tensor([[width, height, width, height]])
    boxes = [torch.tensor([corners]) * part for corners in ([0.1, 0.1, 0.8, 0.8], [0.3, 0.2, 0.9, 0.9])]
    targets = [{"boxes": box, "labels": torch.tensor([k])} for k, box in enumerate(boxes, start=1)]
    return torch.stack(list(network(images, targets).values())).sum()


def keep_samples(network: FasterRCNN) -> None:
    """Train on the RoIs of the first pass for ever: with fresh ones the loss would be another function."""
    choose = network.roi_heads.select_training_samples
    kept: list[Any] = []

    def choose_once(proposals: list[Tensor], targets: list[dict[str, Tensor]]) -> Any:
        if not kept:
            kept.append(choose(proposals, targets))
        return kept[0]

    network.roi_heads.select_training_samples = choose_once


def one_step(network: FasterRCNN) -> tuple[float, float]:
    """One step of the training's optimizer; the loss before and after."""
    network.train().roi_heads.fg_bg_sampler.batch_size_per_image = ROIS
    keep_samples(network)
    before = loss(network)
    before.backward()
    torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), lr=RATE, fused=True).step()
    network.zero_grad(set_to_none=True)
    with torch.no_grad():
        after = loss(network)
    return before.item(), after.item()


def calm(network: FasterRCNN) -> None:
    """Small residuals, as training makes them: 100 layers of random ones turn 1e-7 of a pixel into 1e-3."""
    for module in network.modules():
        if isinstance(module, Bottleneck):
            nn.init.constant_(module.bn3.weight, 0.3)


@torch.no_grad()
def fit_norms(network: FasterRCNN) -> None:
    """Norm statistics of four scenes: with those of a random start, deep networks answer nonsense."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean
    for first in (200, 202) if norms else ():
        loss(network, first)
    network.eval()


@contextmanager
def proposing(network: FasterRCNN) -> Iterator[None]:
    """Few proposals in it: a ResNet's last stage would take each of hundreds by itself."""
    usual = network.rpn._post_nms_top_n
    network.rpn._post_nms_top_n = {**usual, "testing": PROPOSALS}
    yield
    network.rpn._post_nms_top_n = usual


@torch.no_grad()
def spread_scores(network: FasterRCNN) -> None:
    """Scale and centre the class logits until proposals differ: untrained, all score alike."""
    predictor = network.roi_heads.box_predictor
    answers: list[tuple[Tensor, Tensor]] = []
    handle = predictor.register_forward_hook(lambda _, __, answer: answers.append(answer))
    with proposing(network):
        network(training_images(network))
    handle.remove()
    logits, deltas = answers[0]
    spread = LOGIT_SPREAD / logits.std(dim=0).mean()
    predictor.cls_score.bias.sub_(logits.mean(dim=0)).mul_(spread)
    predictor.cls_score.weight.mul_(spread)
    predictor.bbox_pred.weight.div_(deltas.std())  # a trained network's deltas are of order one


def params(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in HEAVY else []) for name in names]


@pytest.fixture(scope="module", params=params(name for name in ARCHITECTURES if name not in COMBINED))
def specimen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Specimen]:
    torch.manual_seed(1)
    network = build_network(request.param, len(LABELS))
    short, long = LARGER if request.param.startswith("vgg") else SMALL
    network.transform.min_size, network.transform.max_size = (short,), long
    calm(network)
    before, after = one_step(network)
    fit_norms(network)
    spread_scores(network)
    folder = tmp_path_factory.mktemp(request.param)
    values = {"min_size": short, "max_size": long, "score_threshold": USUAL.score_threshold}
    card = write_model(folder, network, architecture=request.param, **values)
    yield Specimen(request.param, network, before, after, card)
    shutil.rmtree(folder)  # pytest would keep three runs of it: VGG-16 alone is 550 MB


def reloaded(specimen: Specimen, engine: str) -> Detector:
    """A detector of the card's saved weights, whose network proposes as many boxes as the specimen's."""
    loaded = load_network(str(specimen.card), None, cache_of(specimen))
    loaded.network.rpn._post_nms_top_n["testing"] = PROPOSALS
    choice = EngineChoice(device="cpu", engine=engine, cache_dir=cache_of(specimen))
    return Detector(loaded.network, loaded.card, build_engine(loaded.network, choice))


def cache_of(specimen: Specimen) -> Path:
    return specimen.card.parent / "cache"


def test_one_training_step_lowers_the_loss(specimen: Specimen) -> None:
    assert np.isfinite(specimen.before)
    assert specimen.after < 0.97 * specimen.before


@pytest.mark.parametrize("architecture", COMBINED)
def test_a_network_of_known_parts_has_its_blocks(architecture: str) -> None:
    with torch.device("meta"):
        network = build_network(architecture, len(LABELS))
    blocks = [module for module in network.modules() if isinstance(module, BasicBlock | Bottleneck)]
    groups, width = blocks[0].conv2.groups, blocks[0].conv2.out_channels
    second = next(block for block in blocks if block.stride == 2)
    strides = [name for name in ("conv1", "conv2") if getattr(second, name).stride == (2, 2)]
    assert (len(blocks), groups, width, *strides) == COMBINED[architecture]


def test_saved_and_reloaded_weights_are_the_same(specimen: Specimen) -> None:
    state = load_network(str(specimen.card), None, cache_of(specimen)).network.state_dict()
    for name, tensor in specimen.network.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(state[name], tensor), name


def test_reloaded_it_answers_as_torchvisions_forward(specimen: Specimen) -> None:
    check_answers(specimen, "torch")


@pytest.mark.parametrize("specimen", params(CONVERTED), indirect=True)
def test_converted_it_answers_the_same(specimen: Specimen) -> None:
    check_answers(specimen, "openvino")


def check_answers(specimen: Specimen, engine: str) -> None:
    """The reloaded detector answers as torchvision's own forward of the specimen does, on each shape."""
    detector = reloaded(specimen, engine)
    assert detector.engine_name == engine
    count, expected, matched = 0, 0, 0
    for index, shape in enumerate(SHAPES):
        image = scene(index, shape)
        with proposing(specimen.network):
            [ours], theirs = detect(detector, image), torchvision_detections(specimen.network, image)
        matched += matches(ours, theirs)
        count, expected = count + len(ours), expected + len(theirs)
    assert count >= 5 * len(SHAPES), "too few detections to tell anything"
    assert matched >= MATCHED * max(count, expected)
