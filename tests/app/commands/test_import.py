"""`rcnn import`: a checkpoint becomes a card with weights, and the command says what it found."""

import argparse
from pathlib import Path

import pytest
import torch

from models.detector import DetectorSpec, load_detector
from models.zoo.cards import read_card
from tests.support.data.networks import random_network
from tests.support.rcnn import rcnn


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As torchvision's reference scripts write it."""
    path = tmp_path_factory.mktemp("run") / "model_25.pth"
    arguments = argparse.Namespace(min_size=128, max_size=224, data_path=Path("coco"))
    torch.save({"model": random_network().state_dict(), "args": arguments, "epoch": 25}, path)
    return path


def test_a_checkpoint_becomes_a_model(checkpoint: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("crab\neel\nkelp\nray\n")
    ran = rcnn("import", checkpoint, "--labels", labels, "--out", tmp_path / "models", "--name", "sea")
    assert (ran.code, ran.out) == (0, f"{tmp_path / 'models' / 'sea.toml'}\n")
    assert "torchvision, small, 4 classes: crab, eel, kelp, ray" in ran.err
    assert "check: " in ran.err
    card = read_card(tmp_path / "models" / "sea.toml")
    assert (card.min_size, card.max_size) == (128, 224)
    assert card.labels == ("background", "crab", "eel", "kelp", "ray")
    assert load_detector(DetectorSpec(str(card.path), tmp_path, device="cpu", engine="torch")).version


def test_the_name_and_the_labels_have_a_default(checkpoint: Path, tmp_path: Path) -> None:
    ran = rcnn("import", checkpoint, "--out", tmp_path)
    assert ran.code == 0
    card = read_card(Path(ran.out.strip()))
    assert card.name == f"{checkpoint.parent.name}-model_25"
    assert card.labels == ("background", "class1", "class2", "class3", "class4")


def test_another_number_of_labels_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    ran = rcnn("import", checkpoint, "--labels", "crab,eel", "--out", tmp_path)
    assert ran.code == 1
    assert "--labels names 2 classes; the weights have 4 without background" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_detector_is_refused(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.ones(2, 2)}, tmp_path / "w.pth")
    ran = rcnn("import", tmp_path / "w.pth", "--out", tmp_path / "models")
    assert ran.code == 1
    assert "its names (layer.weight, …) are of none of detectron2, mmdetection and torchvision" in ran.err
