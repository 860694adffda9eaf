"""Small random networks and cards for the tests of the detector, and the comparison with torchvision."""

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from models.detections import Detections
from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.engines.protocol import Engine
from models.images.decoder import Image
from models.networks import build_network
from models.options import Options
from models.zoo.cards import Card

LABELS = ("background", "one", "two", "three", "four")
USUAL = Options(0.05, 0.5, 100)


def random_card(architecture: str = "small", min_size: int = 128, max_size: int = 224) -> Card:
    return Card(
        name="random",
        architecture=architecture,
        weights="file:none.safetensors",
        labels=LABELS,
        min_size=min_size,
        max_size=max_size,
    )


def random_network(spread: float = 40.0, seed: int = 3) -> FasterRCNN:
    """A small network with random weights that finds many things: class scores are spread widely."""
    torch.manual_seed(seed)
    network = build_network("small", len(LABELS)).eval()
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight.mul_(spread)
    return network


def random_detector(card: Card | None = None, engine: str = "torch") -> Detector:
    network = random_network()
    choice = EngineChoice(device="cpu", engine=engine)
    return Detector(network, card or random_card(), build_engine(network, choice))


def torchvision_detections(model: torch.nn.Module, image: Image) -> Detections:
    tensor = torch.from_numpy(image.pixels).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        answer = model([tensor])[0]
    return Detections(**{name: value.numpy() for name, value in answer.items()})


def canvases(batch: int, height: int, width: int, seed: int = 1) -> Tensor:
    """Random canvases (B, 3, H, W), channels last in memory."""
    pixels = torch.randn(batch, height, width, 3, generator=torch.Generator().manual_seed(seed))
    return pixels.permute(0, 3, 1, 2)


def dense(engine: Engine, pixels: Tensor) -> list[Tensor]:
    """All outputs of the dense part."""
    with torch.inference_mode():
        output = engine.dense(pixels)
    return [*output.features, *output.objectness, *output.deltas]


def detect(detector: Detector, *images: Image, options: Options = USUAL) -> list[Detections]:
    """The detections in a batch of images."""
    return detector.detect([Job(detector.prepare(image), options) for image in images])


def assert_alike(one: Detections, other: Detections) -> None:
    """The same objects, but for the rounding of another batch or device."""
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def matches(ours: Detections, expected: Detections, px: float = 0.05, score: float = 1e-3) -> int:
    """Number of our detections with a match of their own: same label, box and score this near."""
    free = np.ones(len(expected), bool)
    count = 0
    for box, label, found in zip(ours.boxes, ours.labels, ours.scores, strict=True):
        near = free & (expected.labels == label) & (np.abs(expected.scores - found) < score)
        distance = np.where(near, np.abs(expected.boxes - box).max(axis=1), np.inf)
        if near.any() and distance[match := int(distance.argmin())] < px:
            free[match] = False
            count += 1
    return count
