"""Small random networks and cards for the tests of the detector, and the comparison with torchvision."""

import numpy as np
import torch
from torchvision.models.detection import FasterRCNN

from models.detections import Detections
from models.detector import Detector
from models.engines import EngineChoice, build_engine
from models.images.decoder import Image
from models.networks import build_network
from models.zoo.cards import Card

LABELS = ("background", "one", "two", "three", "four")


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


def matches(ours: Detections, expected: Detections) -> int:
    """Number of our detections with a match: same label, box within 0.05 px, score within 1e-3."""
    free = np.ones(len(expected), bool)
    count = 0
    for box, label, score in zip(ours.boxes, ours.labels, ours.scores, strict=True):
        near = free & (expected.labels == label) & (np.abs(expected.scores - score) < 1e-3)
        distance = np.where(near, np.abs(expected.boxes - box).max(axis=1), np.inf)
        if near.any() and distance[match := int(distance.argmin())] < 0.05:
            free[match] = False
            count += 1
    return count
