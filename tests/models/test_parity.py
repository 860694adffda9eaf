"""Our split detector answers what torchvision's own forward answers, on the same weights and pixels."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import detection

from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.engines.protocol import Engine
from models.images.decoder import Image
from models.networks import build_network
from models.options import Options
from models.shapes.scenes import draw_scene
from models.zoo.cards import Card
from tests.support.data.networks import matches, torchvision_detections

CLASSES = 7
ENGINES = {"torch": 1, "openvino": 2}  # OpenVINO takes every second shape: the stages around it are shared
MOST = 1000  # at the usual 100 two scores that differ by rounding would decide what is cut off
SHAPES = [(480, 640), (640, 480), (97, 301), (64, 64), (150, 1000), (401, 399)]
SPREAD = 10.0  # wider still, rounding in the features would show in the scores
# Of thousands of random detections a few lie on a threshold or on NMS's edge to within rounding, which
# differs with memory layout and thread count. With two threads all 47,262 at 256 px matched.
MATCHED = 0.995
SIZE, FULL_SIZE = (256, 427), (800, 1333)  # short and long side's limit, px
THRESHOLDS = [(0.05, 0.5), (0.3, 0.3), (0.01, 0.7)]
pytestmark = pytest.mark.network
BUILDERS = {
    "resnet50_fpn": detection.fasterrcnn_resnet50_fpn,
    "mobilenet_v3_large_fpn": detection.fasterrcnn_mobilenet_v3_large_fpn,
}


@dataclass(frozen=True)
class Pair:
    """One set of weights, twice: in torchvision's own network, and behind our engines."""

    model: Any
    network: Any
    engines: dict[str, Engine]

    def torchvision(self, score: float, nms: float, size: tuple[int, int]) -> Any:
        """Torchvision's network with these thresholds and canvas limits."""
        self.model.roi_heads.score_thresh, self.model.roi_heads.nms_thresh = score, nms
        self.model.transform.min_size, self.model.transform.max_size = (size[0],), size[1]
        return self.model

    def detector(self, engine: str, size: tuple[int, int]) -> Detector:
        """Ours with these canvas limits."""
        card = Card(
            name="random",
            architecture="random",
            weights="file:none.safetensors",
            labels=("background", *(f"class{k}" for k in range(1, CLASSES))),
            min_size=size[0],
            max_size=size[1],
        )
        return Detector(self.network, card, self.engines[engine])


def lively(architecture: str) -> torch.nn.Module:
    """A random network whose norms fit its activations and whose class scores are spread widely."""
    torch.manual_seed(7)
    network = build_network(architecture, CLASSES)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # plain mean over the calibration images
    network.train()
    with torch.no_grad():
        for k in range(2):
            features = network.backbone(
                torch.rand(1, 3, 320, 320, generator=torch.Generator().manual_seed(k)) * 4 - 2
            )
        for block in network.backbone.fpn.layer_blocks:
            block[0].weight.div_(features["0"].std())  # features of a trained network are of order one
        _spread_classes(network.eval())
    return network.eval()


def _spread_classes(network: torch.nn.Module) -> None:
    """Class logits `SPREAD` times as wide, and a background that mostly wins, as in a trained network.

    A random network finds thousands of things otherwise, and of so many pairs one always lies on a threshold.
    """
    predictor = network.roi_heads.box_predictor.cls_score
    seen: list[torch.Tensor] = []
    hook = predictor.register_forward_hook(lambda module, arguments, logits: seen.append(logits))
    network([torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(5))])
    hook.remove()
    predictor.weight.mul_(SPREAD)
    predictor.bias[0] += 3 * SPREAD * seen[0].std()


@pytest.fixture(
    scope="module", params=["resnet50_fpn", pytest.param("mobilenet_v3_large_fpn", marks=pytest.mark.slow)]
)
def pair(request: pytest.FixtureRequest) -> Pair:
    network = lively(request.param)
    model = BUILDERS[request.param](
        weights=None, weights_backbone=None, num_classes=CLASSES, box_detections_per_img=MOST
    )
    model.load_state_dict({name: tensor.clone() for name, tensor in network.state_dict().items()})
    engines = {engine: build_engine(network, EngineChoice(device="cpu", engine=engine)) for engine in ENGINES}
    return Pair(model.eval(), network, engines)


def picture(index: int, shape: tuple[int, int]) -> Image:
    """A drawn scene cut to the shape: structure for the network to react to."""
    pixels = draw_scene(99, index).pixels
    tiles = (-(-shape[0] // pixels.shape[0]), -(-shape[1] // pixels.shape[1]), 1)
    return Image(np.ascontiguousarray(np.tile(pixels, tiles)[: shape[0], : shape[1]]), "PNG")


def test_answers_equal_torchvisions(pair: Pair) -> None:
    count, expected, matched = Counter[str](), Counter[str](), Counter[str]()
    for index, shape in enumerate(SHAPES):
        image, thresholds = picture(index, shape), THRESHOLDS[index % len(THRESHOLDS)]
        theirs = torchvision_detections(pair.torchvision(*thresholds, SIZE), image)
        for engine in (engine for engine, step in ENGINES.items() if index % step == 0):
            detector = pair.detector(engine, SIZE)
            [ours] = detector.detect([Job(detector.prepare(image), Options(*thresholds, MOST))])
            count[engine] += len(ours)
            expected[engine] += len(theirs)
            matched[engine] += matches(ours, theirs)
    for engine, step in ENGINES.items():
        assert count[engine] >= 10 * len(SHAPES) / step, "too few detections to tell anything"
        assert matched[engine] >= MATCHED * max(count[engine], expected[engine]), engine


@pytest.mark.slow
def test_answers_equal_torchvisions_at_full_size(pair: Pair) -> None:
    image = picture(3, (480, 640))
    answer = torchvision_detections(pair.torchvision(0.05, 0.5, FULL_SIZE), image)
    for engine in ENGINES:
        detector = pair.detector(engine, FULL_SIZE)
        ours = detector.detect([Job(detector.prepare(image), Options(0.05, 0.5, MOST))])[0]
        assert len(ours) > 10
        assert matches(ours, answer) >= MATCHED * max(len(ours), len(answer)), engine
