"""`rcnn train`: what it refuses to learn from, damaged images, progress, and runs that are continued."""

import io
import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.commands.shared.training_progress import SECONDS, ProgressLines, show_progress
from models.zoo.cards import read_card
from tests.support.data.annotated import write_small_coco
from tests.support.data.cards import write_model
from tests.support.data.networks import random_network
from tests.support.rcnn import Ran, rcnn

pytestmark = pytest.mark.network

SMALL = ("--batch-size", "2", "--min-size", "64", "--threads", "1", "--device", "cpu")
Document = dict[str, Any]


def train(data: Path, out: Path, *more: object, epochs: int = 1, **settings: object) -> Ran:
    return rcnn("train", data, "--out", out, "--epochs", epochs, *SMALL, *more, **settings)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_small_coco(root, "train", 31, 4)
    write_small_coco(root, "val", 32, 2)
    return root


def change(root: Path, split: str, do: Callable[[Document], object]) -> None:
    [path] = [path for path in root.rglob("*.json") if split in path.stem]
    document = json.loads(path.read_text())
    do(document)
    path.write_text(json.dumps(document))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def damage(path: Path) -> None:
    """Damage that is not seen without decoding."""
    path.write_bytes(path.read_bytes()[:2000] + path.read_bytes()[-20:])


def all_crowd(document: Document) -> None:
    for each in document["annotations"]:
        each["iscrowd"] = 1


def without_boxes(document: Document) -> None:
    for each in document["annotations"]:
        del each["bbox"]


@pytest.mark.parametrize(
    ("split", "do", "message"),
    [
        ("train", all_crowd, "nothing to learn from in split 'train': all 29 objects are crowd"),
        ("train", without_boxes, "annotation 1: it needs an image_id"),
        ("val", all_crowd, "nothing to validate on in split 'val': all 17 objects are crowd"),
        ("val", lambda document: document["annotations"].clear(), "or --val-split none to validate on"),
    ],
)
def test_data_without_an_object_are_refused_before_anything_is_written(
    data: Path, tmp_path: Path, split: str, do: Callable[[Document], object], message: str
) -> None:
    change(data, split, do)
    ran = train(data, tmp_path / "run")
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err
    assert not (tmp_path / "run").exists()


def test_damaged_images_are_named_and_left_out(data: Path, tmp_path: Path) -> None:
    cut(data / "val" / "0.png")
    damage(data / "train" / "1.png")
    ran = train(data, tmp_path / "run")
    assert ran.code == 0, ran.err
    for name in ("val/0.png", "train/1.png"):
        assert f"{data / name}: " in ran.err
    assert "on val: 1 of 2 images, as the others cannot be read" in ran.err
    assert "1 unreadable_image" in (tmp_path / "run" / "report.md").read_text()
    card = read_card(tmp_path / "run" / "model.toml")
    assert card.training is not None
    assert f"AP {card.training['ap']:.3f}" in ran.err
    for path in (data / "train").glob("*.png"):
        damage(path)
    ran = train(data, tmp_path / "other")
    assert ran.code == 1
    assert "nothing to learn from in split 'train': none of the images can be read" in ran.err
    assert not (tmp_path / "other").exists()


def test_progress_without_a_terminal_is_a_line_now_and_then() -> None:
    lines: list[str] = []
    times = iter([0.0, 1.0, 2.0, 3.0, 3.0 + SECONDS, 4.0 + SECONDS])
    progress = ProgressLines(lines.append, lambda: next(times))
    losses = {"loss_classifier": 1.0, "loss_box_reg": 0.5, "lr": 1e-3}
    for step in range(1, 6):
        progress.show(step, 10, losses | ({"score": 0.25} if step == 3 else {}))
    assert lines[0] == "step 1 of 10, loss 1.500"
    assert lines[1] == "step 3 of 10, loss 1.500, AP 0.250, 0:00:07 left"
    assert lines[2].startswith("step 5 of 10, loss 1.500, AP 0.250, 0:00:")
    assert len(lines) == 3


def test_a_terminal_keeps_each_ap() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with show_progress(console) as progress:
        progress.show(1, 4, {"loss_a": 2.0})
        progress.show(2, 4, {"loss_a": 1.0, "score": 0.25})
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "step 2 of 4, AP 0.250\n" in shown
    assert "Training" in shown


def test_a_run_is_extended_moved_and_continued_with_other_data_only_if_they_are_the_same(
    data: Path, tmp_path: Path
) -> None:
    out, moved = tmp_path / "run", tmp_path / "moved"
    assert train(data, out, "--log", "csv").code == 0
    shutil.copytree(data, moved)
    longer = train(moved, out, "--threads", "2", epochs=2, cache_dir=tmp_path)
    assert longer.code == 0, longer.err
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 4
    assert "step 3 of 4, loss " in longer.err
    assert "AP " in longer.err.splitlines()[-3]
    change(moved, "train", lambda document: document["annotations"].pop())
    options = ("--from", "shapes", "--zoom", "2", "--boxes", "xywh", "--rename", "even=two")
    refused = train(moved, out, *options)
    assert (refused.code, refused.out) == (2, "")
    for difference in (
        "--from was scratch, is shapes",
        "--zoom was 1.4, is 2.0",
        "--boxes was none, is xywh",
        "--rename was none, is even=two",
        "--epochs was 2, is 1 (it can only be raised)",
        "train images or their annotations differ: 4 images with 29 objects were, 4 with 28 are",
    ):
        assert difference in refused.err
    assert "--threads" not in refused.err
    assert "--out" not in refused.err.split("Repeat it")[0].split("other options")[1]


def test_any_model_is_a_start_and_brings_its_architecture(data: Path, tmp_path: Path) -> None:
    """A card of RCNN_MODEL_DIR here, beside one that is broken."""
    cards = tmp_path / "cards"
    cards.mkdir()
    write_model(cards, random_network(), name="mine")
    (cards / "broken.toml").write_text("name = 1")
    ran = train(data, tmp_path / "run", "--from", "mine", model_dir=cards)
    assert ran.code == 0, ran.err
    theirs = next(path for path in cards.glob("*.toml") if path.stem != "broken")
    assert read_card(tmp_path / "run" / "model.toml").architecture == read_card(theirs).architecture


@pytest.mark.parametrize(("folder", "name"), [("Modèle 2+b", "modele-2-b"), ("_x", "x"), ("auto", None)])
def test_the_model_gets_the_folders_name(data: Path, tmp_path: Path, folder: str, name: str | None) -> None:
    ran = train(data, tmp_path / folder)
    if name is None:
        assert (ran.code, ran.out) == (2, "")
        assert f"--out {tmp_path / folder}: the model gets the folder's name" in ran.err
    else:
        assert read_card(tmp_path / folder / "model.toml").name == name


def test_an_out_folder_that_cannot_be_made_and_tensorboard_that_is_missing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    ran = train(data, tmp_path / "file")
    assert ran.code == 2
    assert f"--out {tmp_path / 'file'}: File exists" in ran.err
    monkeypatch.setattr(
        "app.commands.shared.checks.find_spec",
        lambda name: None if name == "tensorboard" else find_spec(name),
    )
    ran = train(data, tmp_path / "run", "--log", "tensorboard")
    assert ran.code == 1
    assert "tensorboard is missing; install it with: pip install 'rcnn-serve[tensorboard]'" in ran.err


def test_with_int8_the_model_is_quantized_and_each_precision_is_recorded(data: Path, tmp_path: Path) -> None:
    ran = train(data, tmp_path / "mine", "--int8", cache_dir=tmp_path / "cache")
    assert ran.code == 0, ran.err
    card = read_card(tmp_path / "mine" / "model.toml")
    assert card.accuracy is not None
    assert {"fp32", "int8"} <= set(card.accuracy.measured)
    assert (card.accuracy.data, card.accuracy.images) == ("the validation images", 2)
    assert "--int8" in (card.accuracy.command or "")
    assert (tmp_path / "mine" / "mine.int8-v1" / "int8.json").is_file()
