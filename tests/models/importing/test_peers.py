"""Imported checkpoints answer what their library answers, on seeded weights (see make_answers.py)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.detections import Detections
from models.detector import Detector, DetectorSpec, Job, load_detector
from models.images.decoder import Image
from models.importing.run import ImportedModel, ImportSpec, import_checkpoint
from models.options import Options
from tests.models.importing.seeded_weights import SIZES, picture, seeded_state
from tests.support.data.networks import matches

ANSWERS = Path(__file__).parent / "answers"
CASES = {
    "detectron2-fpn": "resnet50_caffe_fpn",
    "detectron2-c4": "resnet50_caffe_c4",
    "mmdetection-pytorch": "resnet50_fpn",
    "mmdetection-caffe": "resnet50_caffe_fpn",
}
NAMES = "crab,eel,kelp,ray,squid"
pytestmark = pytest.mark.network


@dataclass(frozen=True)
class Served:
    """A case's stored content, the import of its checkpoint, and the detector of the written card."""

    content: dict[str, Any]
    model: ImportedModel
    detector: Detector

    def detect(self, name: str) -> Detections:
        """What the detector finds in the picture of that name."""
        card = self.detector.card
        options = Options(card.score_threshold, card.nms_threshold, card.max_detections)
        [found] = self.detector.detect([Job(self.detector.prepare(Image(picture(name), "PNG")), options)])
        return found


@pytest.fixture(scope="module", params=CASES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp(request.param)
    content = json.loads((ANSWERS / f"{request.param}.json").read_text())
    spec = write_checkpoint(request.param, content, folder)
    model = import_checkpoint(spec, Image(picture("exact"), "PNG"))
    detector = load_detector(
        DetectorSpec(str(model.card.path), folder, device="cpu", engine="torch", precision="fp32")
    )
    return Served(content, model, detector)


def write_checkpoint(case: str, content: dict[str, Any], folder: Path) -> ImportSpec:
    """The checkpoint as its library writes it, and how to import it."""
    state = seeded_state(content["shapes"], content["spread"])
    if case.startswith("detectron2"):
        (folder / "config.yaml").write_text(content["config"])
        torch.save({"model": state, "iteration": 0}, folder / "model_final.pth")
        return ImportSpec(folder / "model_final.pth", folder, folder / "config.yaml", NAMES, case)
    meta = {"cfg": content["config"], "dataset_meta": {"classes": tuple(NAMES.split(","))}}
    torch.save({"meta": meta, "state_dict": state}, folder / "epoch_1.pth")
    return ImportSpec(folder / "epoch_1.pth", folder, name=case)


@pytest.mark.parametrize("name", SIZES)
def test_an_imported_model_answers_as_its_library(served: Served, name: str) -> None:
    stored = served.content["answers"][name]
    expected = Detections(
        boxes=np.array(stored["boxes"], np.float32),
        labels=np.array(stored["classes"], np.int64) + 1,
        scores=np.array(stored["scores"], np.float32),
    )
    found = served.detect(name)
    assert len(found) == len(expected) > 20
    assert matches(found, expected) == len(expected)


def test_the_card_says_what_was_recognised(served: Served) -> None:
    card = served.model.card
    assert card.architecture == CASES[card.name]
    assert card.labels == ("background", *NAMES.split(","))
    assert (card.min_size, card.max_size, card.max_detections) == (96, 160, 60)
    assert len(served.model.found) == len(served.detect("exact"))
    assert card.head.class_agnostic is (card.name == "detectron2-fpn")
