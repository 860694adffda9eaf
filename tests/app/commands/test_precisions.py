"""`rcnn evaluate --record` and `rcnn models`: the precision that `auto` takes, and its proof."""

import shutil
from pathlib import Path

import pytest

from models.shapes.scenes import draw_scene
from models.zoo.cards import read_card
from models.zoo.catalogue import ZOO
from tests.support.data.annotated import write_coco
from tests.support.rcnn import rcnn

pytestmark = pytest.mark.network


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A copy of the bundled model, with its weights and artefact, and without a record."""
    for source in ZOO.glob("shapes.*"):
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / source.name)
    path = tmp_path / "shapes.toml"
    text = path.read_text()
    path.write_text(text[: text.index("[accuracy]")].replace('"shapes"', '"mine"', 1))
    (tmp_path / "shapes.int8-v1").rename(tmp_path / "mine.int8-v1")
    return path


def test_each_precision_is_measured_and_recorded_on_the_card(card: Path, tmp_path: Path) -> None:
    data = write_coco(tmp_path / "data", [draw_scene(2, index) for index in range(2)])
    ran = rcnn("evaluate", data, "--model", card, "--split", "val", "--record", cache_dir=tmp_path / "cache")
    assert ran.code == 0, ran.err
    recorded = read_card(card).accuracy
    assert recorded is not None
    assert {"fp32", "int8"} <= set(recorded.measured)
    assert all(value > 0.7 for value in recorded.measured.values())
    assert (recorded.data, recorded.images) == ("data, val", 2)
    assert recorded.command is not None
    assert recorded.command.startswith("rcnn evaluate ")
    assert f"recorded in [accuracy] of {card}" in ran.err


@pytest.mark.parametrize("option", [("--flip",), ("--tile", "200"), ("--url", "http://127.0.0.1:9")])
def test_a_record_is_of_whole_images_in_this_process(tmp_path: Path, option: tuple[str, ...]) -> None:
    ran = rcnn("evaluate", tmp_path, "--record", *option)
    assert ran.code == 2
    assert f"--record measures whole images in this process; leave out {option[0]}" in ran.err


def test_a_card_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    ran = rcnn("evaluate", tmp_path, "--record", "--model", tmp_path / "none.toml")
    assert ran.code == 1
    assert "the card cannot be read" in ran.err


def test_the_catalogue_shows_what_auto_takes_and_why(tmp_path: Path) -> None:
    cards = rcnn("models", "--json", cache_dir=tmp_path).json
    chosen = {card["name"]: card["auto_on_cpu"] for card in cards}
    assert chosen["shapes"]["precision"] == "not timed yet"
    assert chosen["coco-r50-fpn"]["precision"] == "fp32"
    assert "int8: it has no artefact" in chosen["coco-r50-fpn"]["reason"]
    assert "rcnn quantize --model coco-r50-fpn" in chosen["coco-r50-fpn"]["hint"]
    assert chosen["untrained-vgg16"]["hint"] is None
