"""YOLO: where its files and images may lie, and what they may hold."""

from pathlib import Path

import pytest

from models.datasets import DatasetError, read_dataset
from tests.support.data.datasets import (
    FRUIT,
    NAMES,
    counts,
    expected,
    objects,
    save,
    write,
    write_yolo,
    yolo_line,
)


def test_outlines_in_yolo_are_boxed(tmp_path: Path) -> None:
    save(tmp_path / "images/train/a.png", (100, 50))
    write(tmp_path / "labels/train/a.txt", "1 0.1 0.2 0.5 0.9 0.3 0.1\n0.0 0.5 0.5 0.5 0.5\n")
    write(tmp_path / "classes.txt", "apple\npear\n")
    assert objects(read_dataset(tmp_path)) == {
        "a.png": [("pear", [10.0, 5.0, 50.0, 45.0]), ("apple", [25.0, 12.5, 75.0, 37.5])]
    }


def test_yolo_beside_the_images(tmp_path: Path) -> None:
    for picture in FRUIT["train"]:
        save(tmp_path / picture.name, picture.size)
        lines = [yolo_line(name, box, picture.size) for name, box in picture.objects]
        write(tmp_path / f"{Path(picture.name).stem}.txt", "\n".join(lines))
    with pytest.raises(DatasetError, match=r"no names; add `names:` to data.yaml, or classes.txt"):
        read_dataset(tmp_path)
    assert objects(read_dataset(tmp_path, labels=NAMES)) == expected("train")
    write(tmp_path / "obj.names", "\r\n".join(NAMES))
    write(tmp_path / "train.txt", "a.jpg\n")
    write(tmp_path / "README.dataset.txt", "made by hand\n")
    dataset = read_dataset(tmp_path)
    assert objects(dataset) == expected("train")
    assert dataset.report.faults == ()


def test_yolo_images_without_any_labels_are_not_empty(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    for path in (root / "labels/train").iterdir():
        path.unlink()
    (root / "labels/train").rmdir()
    dataset = read_dataset(root)
    assert objects(dataset) == expected("val")
    assert dataset.report.counts == {"missing_annotation": 2}


@pytest.mark.parametrize(
    "text",
    [
        "path: /gone/to\ntrain: images/train\nval: images/val\nnames:\n  0: apple\n  1: pear\n  2: plum\n",
        "train: ../images/train\nval: [../images/val]\nnames: [apple, pear, plum]\n",
        "path: .\ntrain: list of train.txt\nval: images/val\ntest:\nnames: {2: plum, 0: apple, 1: pear}\n",
        "\ufefftrain: images\\train\r\nval: images\\val\r\nnames: ['apple', 'pear', 'plum']\r\n",
        "names: [apple, pear, plum]\n",
    ],
)
def test_the_yaml_of_yolo_in_its_dialects(text: str, tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    write(root / "data.yaml", text)
    write(root / "list of train.txt", "./images/train/a.jpg\nimages\\train\\b two.png\n")
    assert objects(read_dataset(root)) == expected("train", "val")
    assert objects(read_dataset(root / "data.yaml", "train")) == expected("train")
    assert read_dataset(root).labels == ("background", *NAMES)


def test_an_empty_folder_of_labels_means_images_without_objects(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    for path in (root / "labels/train").iterdir():
        path.unlink()
    report = read_dataset(root, "train").report
    assert (report.images, report.empty_images, report.faults) == (2, 2, ())


def test_the_classes_among_the_labels(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "data.yaml").unlink()
    write(root / "labels/val/classes.txt", "\n".join(NAMES))
    dataset = read_dataset(root)
    assert objects(dataset) == expected("train", "val")
    assert dataset.report.faults == ()


def test_yolo_splits_that_share_a_folder_share_its_images(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    write(root / "data.yaml", f"train: images/train\nval: images/train\nnames: {list(NAMES)}\n")
    assert (len(read_dataset(root).images), counts(root)) == (2, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a\ntrain: x", "not a readable YAML"),
        ("names: " + "[" * 3000, "not a readable YAML"),
        ("names: apple\n", "names must be a list"),
        ("names: {a: b}\n", "names must be a list"),
        ("names: [a]\ntrain: {x: y}\n", "train must be the path"),
        ("names: !!python/object/apply:os.system ['true']\n", "not a readable YAML"),
        ("- names\n- train:\ntrain:", "not a readable YAML"),
    ],
)
def test_a_broken_yaml_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    write(root / "data.yaml", text)
    with pytest.raises(DatasetError, match=message):
        read_dataset(root)


def test_yolo_splits_with_folders_of_their_own(tmp_path: Path) -> None:
    for split, pictures in FRUIT.items():
        for picture in pictures:
            save(tmp_path / split / "images" / picture.name, picture.size)
            lines = [yolo_line(name, box, picture.size) for name, box in picture.objects]
            write(tmp_path / split / f"labels/{Path(picture.name).stem}.txt", "\n".join(lines))
    write(tmp_path / "train/labels/classes.txt", "\n".join(NAMES))
    assert objects(read_dataset(tmp_path, "train")) == expected("train")
    assert objects(read_dataset(tmp_path)) == expected("train", "val")


def test_several_yaml_files_ask_which(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    text = (root / "data.yaml").read_text()
    (root / "data.yaml").unlink()
    write(root / "one.yaml", text)
    write(root / "two.yml", text)
    with pytest.raises(DatasetError, match=r"several YAML files.*one.yaml, two.yml"):
        read_dataset(root)
    assert objects(read_dataset(root / "two.yml")) == expected("train", "val")
