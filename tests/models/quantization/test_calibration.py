"""Calibration sees what the network will get: images prepared as the card's [preprocessing] says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import nn

from models.detector import Detector
from models.engines.torch_engine import TorchEngine
from models.quantization.calibration import Calibration, RecordingEngine, calibrate
from models.shapes.scenes import draw_scene
from models.zoo.loading import load_network
from models.zoo.sections import Preprocessing
from tests.support.data.cards import write_model
from tests.support.data.networks import random_network

pytestmark = pytest.mark.network

TORCHVISION = Preprocessing()
SPREAD = 255 * torch.tensor(TORCHVISION.std)
# As detectron2 and mmdetection's caffe models have it: BGR, 0 to 255, the mean subtracted.
CAFFE = f"""
[preprocessing]
mean = {[255 * value for value in reversed(TORCHVISION.mean)]}
std = [1.0, 1.0, 1.0]
channels = "bgr"
scale = 1
"""


def calibrated(card: Path, picture: Path) -> Calibration:
    loaded = load_network(str(card), None, card.parent)
    recorder = RecordingEngine(TorchEngine(loaded.network, torch.device("cpu"), "fp32"))
    return calibrate(Detector(loaded.network, loaded.card, recorder), recorder, [picture])


def as_caffe(network: nn.Module) -> nn.Module:
    """The network for BGR pixels of 0 to 255 that answers what this one does."""
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        first.weight.copy_((first.weight / SPREAD[:, None, None]).flip(1))
    return network


def test_calibration_prepares_images_as_the_card_says(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    PillowImage.fromarray(draw_scene(8, 0).pixels).resize((160, 120)).save(picture)
    sizes = {"min_size": 96, "max_size": 160}
    found = []
    for name, network, section in (
        ("plain", random_network(spread=10), ""),
        ("caffe", as_caffe(random_network(spread=10)), CAFFE),
    ):
        (tmp_path / name).mkdir()
        card = write_model(tmp_path / name, network, **sizes)
        card.write_text(card.read_text() + section)
        found.append(calibrated(card, picture))
    plain, caffe = found
    [canvas], [wide] = plain.canvases, caffe.canvases
    np.testing.assert_allclose(wide, canvas * SPREAD.numpy(), atol=1e-3)
    np.testing.assert_allclose(caffe.pooled[0], plain.pooled[0], rtol=1e-3, atol=1e-3)
