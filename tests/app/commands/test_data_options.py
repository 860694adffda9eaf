"""Options about data, and exit codes: wrong options end with 2, wrong data with 1 and nothing written."""

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.data.annotated import write_small_coco
from tests.support.data.datasets import FRUIT, write_coco
from tests.support.rcnn import RCNN, Ran, rcnn

SMALL = ("--epochs", "1", "--batch-size", "2", "--min-size", "96", "--threads", "1", "--device", "cpu")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_small_coco(root, "train", 31, 4)
    write_small_coco(root, "val", 32, 2)
    return root


def edit(root: Path, split: str, **values: object) -> None:
    path = root / f"annotations/instances_{split}.json"
    document = json.loads(path.read_text())
    for entry in document["annotations"]:
        entry.update(values)
    path.write_text(json.dumps(document))


def to_corners(root: Path, split: str) -> None:
    path = root / f"annotations/instances_{split}.json"
    document = json.loads(path.read_text())
    for entry in document["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]
    path.write_text(json.dumps(document))


def train(data: Path, *more: str) -> Ran:
    return rcnn("train", data, "--out", data.parent / "out", *SMALL, *more)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--classes", "kiwi"), "--classes names 'kiwi'"),
        (("--rename", "kiwi=even"), "--rename names 'kiwi'"),
        (("--rename", "even"), "write --rename old=new"),
        (("--boxes", "xx"), "--boxes"),
        (("--exif", "turn"), "--exif"),
        (("--val-fraction", "2"), "--val-fraction"),
    ],
)
def test_a_wrong_option_of_data_exits_with_2(options: tuple[str, ...], reason: str, data: Path) -> None:
    ran = train(data, *options)
    assert (ran.code, ran.out) == (2, "")
    assert reason in ran.err
    assert not (data.parent / "out").exists()


@pytest.mark.parametrize(
    ("split", "values", "reason"),
    [
        ("train", {"category_id": "3"}, "annotation 1: it needs an image_id, a category_id"),
        ("val", {"iscrowd": 1}, "nothing to validate on in split 'val'"),
    ],
)
def test_wrong_data_exits_with_1_and_leaves_out_untouched(
    split: str, values: dict[str, object], reason: str, data: Path
) -> None:
    edit(data, split, **values)
    ran = train(data)
    assert (ran.code, ran.out) == (1, "")
    assert reason in ran.err
    assert not (data.parent / "out").exists()


@pytest.mark.network
@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
def test_how_boxes_are_read_is_said_first(command: str, card: Path, data: Path) -> None:
    to_corners(data, "train")
    ran = rcnn(command, data, "--model", card, "--split", "train", "--device", "cpu")
    assert "as x1, y1, x2, y2: read so (--boxes xyxy)" in " ".join(ran.err.split())[:300]


@pytest.mark.network
def test_evaluation_without_an_object_is_an_error(card: Path, data: Path) -> None:
    edit(data, "val", iscrowd=1)
    ran = rcnn("evaluate", data, "--model", card, "--split", "val", "--device", "cpu")
    assert (ran.code, ran.out) == (1, "")
    assert "nothing to measure on in split 'val'" in ran.err


@pytest.mark.network
@pytest.mark.process
def test_names_of_any_language_train_in_any_locale(tmp_path: Path) -> None:
    names = ("Äpfel", "梨", "plum")
    translated = {
        split: tuple(
            picture._replace(objects=tuple((names[n % 2], box) for n, (_, box) in enumerate(picture.objects)))
            for picture in pictures
        )
        for split, pictures in FRUIT.items()
    }
    write_coco(tmp_path / "data", translated, names)
    posix = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [*RCNN, "train", str(tmp_path / "data"), "--out", str(tmp_path / "out"), *SMALL]
    done = subprocess.run(  # our own program
        command, capture_output=True, env={**os.environ, **posix}, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()
    labels = tomllib.loads((tmp_path / "out/model.toml").read_text(encoding="utf-8"))["labels"]
    assert labels == ["background", *names]
    assert names[1] in (tmp_path / "out/report.md").read_text(encoding="utf-8")
