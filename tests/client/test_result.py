"""What a Detections can do, and what the distribution needs."""

import importlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import supervision
from PIL import Image as pillow

import rcnn_client
from rcnn_client import Detection, Detections
from tests.support.fakes import picture
from tests.support.process import python


def result(width: int, height: int, count: int = 2) -> Detections:
    """A square and a disc, as a FakeDetector finds them in an image of that size."""
    shares = np.array([[0.125, 0.25, 0.5, 0.75], [0.25, 0.25, 1.0, 0.5]])[:count]
    boxes = (shares * np.array([width, height] * 2)).astype(np.float32)
    return Detections(
        boxes=boxes,
        labels=np.array([1, 2])[:count],
        scores=np.array([0.9375, 0.75], np.float32)[:count],
        names=("Square", "disc")[:count],
        width=width,
        height=height,
        model="fake",
        timings_ms={"total": 1.0},
    )


def test_a_result_is_drawn_on_a_file_bytes_or_pixels(tmp_path: Path) -> None:
    data = picture(330, 240, "JPEG")
    (tmp_path / "picture.jpg").write_bytes(data)
    with pillow.open(io.BytesIO(data)) as opened:
        pixels = np.asarray(opened)
    drawings = [
        np.asarray(result(330, 240).draw(image)) for image in (data, tmp_path / "picture.jpg", pixels)
    ]
    changed = (drawings[0] != pixels).any(axis=2)
    assert drawings[0].shape == (240, 330, 3)
    assert changed[80:180, 42:43].mean() > 0.9  # the left edge of the square at 41, 60, 165, 180
    assert not changed[190:].any()
    for other in drawings[1:]:
        np.testing.assert_array_equal(drawings[0], other)
    with pytest.raises(ValueError, match="64x48, the detections are of one of 330x240"):
        result(330, 240).draw(picture())


def test_a_drawing_of_a_small_image_is_enlarged_and_turned_as_displayed() -> None:
    assert result(64, 48).draw(picture()).size == (320, 240)
    turned, exif = io.BytesIO(), pillow.Exif()
    exif[0x0112] = 6  # a quarter turn
    with pillow.open(io.BytesIO(picture())) as opened:
        opened.save(turned, "JPEG", exif=exif)
    assert result(48, 64).draw(turned.getvalue()).size == (240, 320)


def test_supervision_gets_the_same_detections() -> None:
    ours = result(64, 48)
    theirs = ours.to_supervision()
    assert isinstance(theirs, supervision.Detections)
    np.testing.assert_array_equal(theirs.xyxy, ours.boxes)
    np.testing.assert_array_equal(theirs.class_id, ours.labels)
    np.testing.assert_array_equal(theirs.confidence, ours.scores)
    assert theirs.data["class_name"].tolist() == ["Square", "disc"]
    theirs.xyxy[0] = 0  # a copy
    assert ours.boxes[0].tolist() == [8, 12, 32, 36]
    assert len(result(64, 48, count=0).to_supervision()) == 0


def test_detections_are_iterated_and_given_as_coco_results_and_as_a_table() -> None:
    ours = result(64, 48)
    assert list(ours) == [
        Detection("Square", 1, 0.9375, (8, 12, 32, 36)),
        Detection("disc", 2, 0.75, (16, 12, 64, 24)),
    ]
    assert ours[-1].name == "disc"
    with pytest.raises(IndexError):
        ours[2]
    assert ours.to_coco(image_id=7) == [
        {"image_id": 7, "category_id": 1, "bbox": [8, 12, 24, 24], "score": 0.9375},
        {"image_id": 7, "category_id": 2, "bbox": [16, 12, 48, 12], "score": 0.75},
    ]
    table = ours.to_pandas()
    assert list(table.columns) == ["x1", "y1", "x2", "y2", "score", "label", "name"]
    assert table.iloc[1].tolist() == [16, 12, 64, 24, 0.75, 2, "disc"]
    assert len(result(64, 48, count=0).to_pandas()) == 0


def test_arrays_are_checked_and_read_only() -> None:
    ours = result(64, 48)
    with pytest.raises(ValueError, match="read-only"):
        ours.scores[0] = 1
    with pytest.raises(ValueError, match=r"boxes must be \(1, 4\) finite numbers"):
        Detections(ours.boxes, ours.labels, ours.scores, ("one",), 64, 48, "fake", {})
    with pytest.raises(ValueError, match="scores must be"):
        Detections(ours.boxes, ours.labels, ours.scores * np.float32("nan"), ours.names, 64, 48, "fake", {})
    assert result(64, 48, count=0).boxes.shape == (0, 4)
    assert ours.label_names() == ["", "Square", "disc"]


def test_the_client_needs_its_four_dependencies_alone() -> None:
    unwanted = (
        "app",
        "models",
        "torch",
        "rich",
        "pandas",
        "supervision",
        "fastapi",
        "pydantic",
        "typer",
        "av",
    )
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({unwanted}))\n"
        "from rcnn_client import AsyncClient, Client\n"
        "Client('http://127.0.0.1:1').close()\n"
        f"print([name for name in {unwanted} if sys.modules.get(name)])\n"
    )
    done = python(program)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_old_name_of_the_client_warns() -> None:
    sys.modules.pop("app.client", None)
    with pytest.warns(DeprecationWarning, match="app.client is now rcnn_client"):
        alias = importlib.import_module("app.client")
    assert rcnn_client.Result is Detections  # its name in the release before
    assert {name: getattr(alias, name) for name in rcnn_client.__all__} == {
        name: getattr(rcnn_client, name) for name in rcnn_client.__all__
    }
