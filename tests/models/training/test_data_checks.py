"""What a run checks before its first step: images of which a resize leaves nothing, and notes on all data."""

from pathlib import Path

import pytest

from models.datasets import DatasetError
from models.training.run import Recipe, read_data
from tests.support.data.datasets import FRUIT, Picture, write_coco

pytestmark = pytest.mark.network

STRIP = Picture("strip.png", (600, 2), (("pear", (1.0, 0.0, 90.0, 2.0)),))


def recipe(root: Path, max_size: int, **options: object) -> Recipe:
    return Recipe(root, root / "run", root / "cache", min_size=64, max_size=max_size, **options)  # type: ignore[arg-type]  # numbers alone


def test_a_strip_is_left_out_where_a_pixel_of_it_is_left(tmp_path: Path) -> None:
    root = write_coco(tmp_path, {"train": (*FRUIT["train"], STRIP), "val": FRUIT["val"]})
    narrow = read_data(recipe(root, 300)).train.report
    assert narrow.counts == {"narrow_image": 1}
    assert (
        "600 x 2 px; at a long side of 300 px no more than 1 px is left (with 1 objects)" in narrow.summary()
    )
    assert read_data(recipe(root, 301)).train.report.counts == {}
    alone = write_coco(tmp_path / "alone", {"train": (STRIP,), "val": FRUIT["val"]})
    with pytest.raises(DatasetError, match=r"nothing to learn from[\s\S]*600 x 2 px"):
        read_data(recipe(alone, 300))


def test_a_note_on_all_images_is_in_one_report(tmp_path: Path) -> None:
    root = write_coco(tmp_path, {"default": FRUIT["train"] + FRUIT["val"]})
    data = read_data(recipe(root, 128))
    assert data.val is not None
    notes = [note for report in data.reports.values() for note in report.notes]
    assert len(notes) == len(set(notes)) == 1
    assert data.val.report.notes == data.train.report.notes
