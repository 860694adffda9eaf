"""Small random networks and cards for the tests of the detector."""

import torch
from torchvision.models.detection import FasterRCNN

from models.detector import Detector
from models.engines import EngineChoice, build_engine
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
