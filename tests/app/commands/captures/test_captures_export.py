"""Captures as data sets of annotation tools, which our own readers take as training data."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.captures.files import Capture, write_capture
from app.schemas.exports import Subject, to_coco
from models.datasets import read_dataset
from models.detections import Detections
from tests.support.fakes import picture
from tests.support.rcnn import rcnn

LABELS = {1: "Square", 2: "disc, small"}
BOXES = ((4.0, 8.0, 40.0, 32.0), (10.5, 0.0, 20.5, 24.0))


def keep(folder: Path, name: str, model: str = "mine", objects: int = 2) -> None:
    detections = Detections(
        np.array(BOXES[:objects], np.float32).reshape(-1, 4),
        np.array([1, 2][:objects], np.int64),
        np.array([0.75, 0.5][:objects], np.float32),
    )
    file = f"{name}.png"
    coco = json.loads(to_coco(detections, Subject(file, (64, 48), model, LABELS)))
    capture = Capture(name, "2026-11-30T08:00:00.000+00:00", model, "1", "none", "-", file, coco)
    write_capture(folder / model, capture, picture(64, 48))


@pytest.mark.parametrize("format", ["coco", "cvat", "yolo"])
def test_an_export_is_training_data(tmp_path: Path, format: str) -> None:
    keep(tmp_path / "kept", "a")
    keep(tmp_path / "kept", "b", objects=0)
    done = rcnn(
        "captures", "export", "--to", format, "--out", tmp_path / "out", capture_dir=tmp_path / "kept"
    )
    assert (done.code, done.out) == (0, f"2 images with 2 objects in {tmp_path / 'out'}\n"), done.err
    dataset = read_dataset(tmp_path / "out")
    assert dataset.labels[1:] == tuple(LABELS.values())
    images = {image.path.name: image for image in dataset.images}
    np.testing.assert_allclose(images["a.png"].boxes, BOXES, atol=0.01)
    assert len(images["b.png"].boxes) == 0


def test_an_export_to_label_studio_has_predictions(tmp_path: Path) -> None:
    keep(tmp_path / "kept", "a")
    out = tmp_path / "out"
    assert (
        rcnn("captures", "export", "--to", "labelstudio", "--out", out, "--data", tmp_path / "kept").code == 0
    )
    [task] = json.loads((out / "tasks.json").read_text())
    assert task["data"]["image"] == "/data/local-files/?d=images/a.png"
    assert (out / "images" / "a.png").read_bytes() == picture(64, 48)
    values = [result["value"] for result in task["predictions"][0]["result"]]
    assert [value["rectanglelabels"] for value in values] == [["Square"], ["disc, small"]]


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    export = ("captures", "export", "--to", "coco", "--out", tmp_path / "out")
    assert "set RCNN_CAPTURE_DIR" in rcnn(*export).err
    (tmp_path / "kept").mkdir()
    assert "has no captures" in rcnn(*export, "--data", tmp_path / "kept").err
    for model in ("mine", "yours"):
        keep(tmp_path / "kept", "a", model)
    several = rcnn(*export, "--data", tmp_path / "kept")
    assert (several.code, "mine, yours; choose one with --model" in several.err) == (2, True)
    assert rcnn(*export, "--data", tmp_path / "kept", "--model", "yours").code == 0
    assert "is not empty" in rcnn(*export, "--data", tmp_path / "kept", "--model", "yours").err
