"""COCO: where its files and images may lie, and what they may hold."""

import json
from pathlib import Path

import pytest

from models.datasets import DatasetError, read_dataset
from tests.support.data.datasets import (
    FRUIT,
    coco_document,
    counts,
    expected,
    objects,
    save,
    write,
    write_coco,
)


def test_a_json_file_is_named_itself(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    assert objects(read_dataset(root / "annotations/instances_val.json")) == expected("val")
    beside = root / "train/labels.json"
    (root / "annotations/instances_train.json").rename(beside)
    assert objects(read_dataset(beside)) == expected("train")
    with pytest.raises(DatasetError, match="not split"):
        read_dataset(beside, "train")


def test_the_files_of_coco_itself(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    (root / "train").rename(root / "train2017")
    (root / "annotations/instances_train.json").rename(root / "annotations/instances_train2017.json")
    write(root / "annotations/captions_train2017.json", json.dumps({"images": [], "annotations": []}))
    assert objects(read_dataset(root, "train")) == expected("train")
    assert read_dataset(root).report.faults == ()


def test_coco_in_a_folder_for_each_split(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    for split in FRUIT:
        (root / f"annotations/instances_{split}.json").rename(root / split / "_annotations.coco.json")
    assert objects(read_dataset(root, "val")) == expected("val")
    assert objects(read_dataset(root)) == expected("train", "val")


def test_coco_file_names_of_another_system(tmp_path: Path) -> None:
    pictures = tuple(
        p._replace(name=f"C:\\data\\train\\{p.name}".replace(".jpg", ".JPG")) for p in FRUIT["train"]
    )
    for picture in FRUIT["train"]:
        save(tmp_path / "images" / picture.name, picture.size)
    write(tmp_path / "labels.json", json.dumps(coco_document(pictures)))
    assert objects(read_dataset(tmp_path)) == expected("train")


def test_a_hostile_coco_file_name_is_a_missing_image(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    path = root / "annotations/instances_val.json"
    document = json.loads(path.read_text())
    names = ["x" * 5000, "/dev/zero", "\ud800.png", "..", "/"]
    document["images"] += [{"id": 50 + n, "file_name": name} for n, name in enumerate(names)]
    path.write_text(json.dumps(document))
    assert counts(root, split="val") == {"missing_image": len(names)}


@pytest.mark.parametrize(
    "text", ["[" * 100_000 + '"images"', '{"images": 1', '{"images": [], "annotations": {}}']
)
def test_a_broken_coco_file_is_an_error_alone_and_a_fault_among_others(text: str, tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    write(root / "annotations/instances_more.json", text)
    assert counts(root) == {"unreadable_annotation": 1}
    with pytest.raises(DatasetError, match="no file could be read"):
        read_dataset(root, "more")
