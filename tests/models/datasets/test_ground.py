"""Nothing to learn or to measure is an error with the first reasons; images are bound by their paths."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.datasets import DataOptionError, DatasetError, ReadOptions, read_dataset, read_training_data
from tests.support.data.datasets import FRUIT, counts, expected, objects, save, write, write_coco, write_yolo


def change(root: Path, edit: Callable[[dict[str, Any]], None], split: str = "train") -> Path:
    path = root / f"annotations/instances_{split}.json"
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    return root


def each(part: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that sets these values in each entry; a function makes a value of the old one."""

    def edit(document: dict[str, Any]) -> None:
        for entry in document[part]:
            entry.update(
                {key: made(entry.get(key)) if callable(made) else made for key, made in values.items()}
            )

    return edit


def without(key: str) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        for entry in document["annotations"]:
            del entry[key]

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (each("annotations", category_id=str), r"annotation 1: .*category_id is the text '17' \(write 17"),
        (each("annotations", category_id=float), r"category_id is the decimal number 17.0 \(write 17\)"),
        (
            each("annotations", image_id=str),
            r"no image has the id the text '0'.*one has the id 0, of another type",
        ),
        (each("annotations", image_id=float), r"image_id is the decimal number 0.0 \(write 0\)"),
        (without("bbox"), r"instances_train.json annotation 1: .*it has no bbox"),
        (each("annotations", bbox=[1, 2, 3]), r"its bbox is \[1, 2, 3\]"),
        (each("annotations", iscrowd=1), r"all 2 objects are crowd or difficult.*set iscrowd"),
        (each("categories", id=str), r"category 1: .*id is the text '31' \(write 31 without quotes"),
        (each("categories", name=lambda name: 7), r"category 1: .*its name is 7"),
        (each("annotations", category_id=99), r"class number 99 has no name"),
    ],
)
def test_nothing_to_learn_from_is_an_error_with_the_reason(
    edit: Callable[[dict[str, Any]], None], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=rf"(?s)(nothing to learn from|no object).*{reason}"):
        read_training_data(change(write_coco(tmp_path), edit))


def test_nothing_to_validate_on_is_an_error(tmp_path: Path) -> None:
    root = change(write_coco(tmp_path), lambda document: document["annotations"].clear(), "val")
    with pytest.raises(DatasetError, match="nothing to validate on in split 'val': the 1 images have no"):
        read_training_data(root)
    assert read_training_data(root, ("train", None))[1] is None


def test_images_that_share_an_id_are_named_and_skipped(tmp_path: Path) -> None:
    root = change(write_coco(tmp_path), each("images", id=0))
    dataset = read_dataset(root)
    assert objects(dataset) == expected("val")
    assert dataset.report.counts == {"duplicate_id": 2}
    assert "a.jpg, b two.png: its 2 annotations may be of any" in dataset.report.faults[0].detail


def test_an_absent_image_is_not_another_of_its_name(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    save(root / "images/0001.png", (40, 40))
    save(root / "images/cam1/0001.png", (40, 40))
    images = [
        {"id": n, "file_name": name} for n, name in enumerate(["cam1/0001.png", "cam2/0001.png", "0001.png"])
    ]
    boxes = [{"image_id": n, "category_id": 1, "bbox": [n, 1, 20, 20]} for n in range(3)]
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "pear"}]}
    write(root / "annotations/instances_train.json", json.dumps(document))
    dataset = read_dataset(root, "train")
    found = {image.path.relative_to(root).as_posix(): image.boxes[0][0] for image in dataset.images}
    assert found == {"images/cam1/0001.png": 0.0, "images/0001.png": 2.0}
    assert dataset.report.counts == {"missing_image": 1}
    assert "cam2/0001.png" in dataset.report.faults[0].where


def test_a_list_of_another_machine_is_bound_by_what_is_after_the_folders_of_all(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    write(root / "train.txt", "D:\\work\\images\\train\\a.jpg\nD:\\work\\images\\train\\b two.png\n")
    write(root / "data.yaml", "train: train.txt\nval: images/val\nnames: [apple, pear, plum]\n")
    assert objects(read_dataset(root, "train")) == expected("train")


def test_a_list_of_absent_images_says_so(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    write(root / "train.txt", "elsewhere/x.jpg\nelsewhere/y.jpg\n")
    write(root / "data.yaml", "train: train.txt\nval: images/val\nnames: [apple, pear, plum]\n")
    with pytest.raises(DatasetError, match=r"(?s)2 missing_image.*x.jpg is not there"):
        read_dataset(root, "train")


def test_one_coco_file_too_many(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    train = (root / "annotations/instances_train.json").rename(root / "train/_annotations.coco.json")
    (root / "annotations/instances_val.json").unlink()
    old = root / "train/_annotations_old.coco.json"
    old.write_bytes(train.read_bytes())
    dataset = read_dataset(root, "train")
    assert objects(dataset) == expected("train")
    assert "_annotations.coco.json is read" in dataset.report.notes[0]
    train.rename(root / "train/new.json")
    with pytest.raises(
        DatasetError, match=r"_annotations_old.coco.json .*new.json both annotate|both annotate"
    ):
        read_dataset(root, "train")


def test_names_that_group_others_or_mark_no_class_are_no_classes(tmp_path: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        for entry in document["categories"]:
            entry["supercategory"] = "fruit"
        names = ["__background__", "fruit", "N/A", "N/A"]
        document["categories"] += [
            {"id": n, "name": name, "supercategory": "fruit"}
            for n, name in zip((0, 1, 4, 5), names, strict=True)
        ]

    dataset = read_dataset(change(write_coco(tmp_path), edit), "train")
    assert dataset.labels == ("background", "apple", "pear", "plum")
    assert objects(dataset) == expected("train")


@pytest.mark.parametrize("name", ["a\x7fb", "line\nbreak", "\ud800"])
def test_a_name_that_no_card_can_hold_is_an_error(name: str, tmp_path: Path) -> None:
    root = change(write_coco(tmp_path), each("categories", name=lambda old: name if old == "pear" else old))
    with pytest.raises(DatasetError, match="correct it in the annotations"):
        read_dataset(root)


def test_an_empty_name_is_an_error(tmp_path: Path) -> None:
    write(write_yolo(tmp_path) / "data.yaml", "train: images/train\nnames: ['apple', 'pear', '']\n")
    with pytest.raises(DatasetError, match="class 2 has an empty name"):
        read_dataset(tmp_path)


def test_classes_are_chosen_and_merged(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    chosen = read_dataset(root, options=ReadOptions(classes=("plum", "pear")))
    assert chosen.labels == ("background", "plum", "pear")
    assert objects(chosen)["a.jpg"] == [("pear", [4.25, 5.5, 20.75, 40.0])]
    assert chosen.report.faults == ()
    assert chosen.report.notes == ("--classes leaves out 1 objects: apple 1",)
    merged = read_dataset(root, options=ReadOptions(rename=("apple=Kernobst 図", "pear=Kernobst 図")))
    assert merged.labels == ("background", "Kernobst 図", "plum")
    assert merged.report.per_class == {"Kernobst 図": 3, "plum": 1}


def test_a_class_that_the_data_does_not_have_is_a_wrong_option(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    for options in (ReadOptions(classes=("kiwi",)), ReadOptions(rename=("kiwi=pear",))):
        with pytest.raises(DataOptionError, match="'kiwi', which the data does not have; it has"):
            read_dataset(root, options=options)


@pytest.mark.parametrize(
    "values", [{"rename": ("a",)}, {"boxes": "xy"}, {"exif": "no"}, {"val_fraction": 1.0}]
)
def test_an_option_without_a_meaning_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="--"):
        ReadOptions(**values)


def test_an_image_that_was_cut_off_is_named_and_counted(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    path = root / "train/a.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    assert counts(root) == {"unreadable_image": 1}
    assert read_dataset(root).report.faults[0].where == str(path)


@pytest.mark.process
def test_file_names_of_any_language_are_found_in_any_locale(tmp_path: Path) -> None:
    picture = FRUIT["train"][0]._replace(name="Äpfel 図.jpg")
    root = write_coco(tmp_path, {"train": (picture,)})
    imports = "from pathlib import Path; from models.datasets import read_dataset"
    program = f"{imports}; print(len(read_dataset(Path({str(root)!r})).images))"
    posix = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(  # our own program
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **posix},
    )
    assert (done.stdout.strip(), done.returncode) == ("1", 0), done.stderr
