"""The exports of annotation programs are read without an option, and give the same images and objects."""

from pathlib import Path

import pytest

from models.datasets import Dataset, DatasetError, ReadOptions, read_dataset, read_part, read_training_data
from tests.support.data.datasets import NAMES, expected, objects, save, write, write_voc
from tests.support.data.exports import FURTHER, MOST_USED, cvat_images, labelme, retinanet, zipped

EMPTY = "b two.png"  # formats that list objects alone do not know it


def by_name(dataset: Dataset) -> dict[str, list[tuple[str, list[float]]]]:
    return {name.removeprefix("1a2b3c4d-"): found for name, found in objects(dataset).items()}


def without_empty(
    found: dict[str, list[tuple[str, list[float]]]],
) -> dict[str, list[tuple[str, list[float]]]]:
    return {name: boxes for name, boxes in found.items() if name != EMPTY}


@pytest.mark.parametrize("name", [*MOST_USED, *FURTHER])
def test_an_export_is_read_without_an_option(name: str, tmp_path: Path) -> None:
    root = (MOST_USED | FURTHER)[name](tmp_path)
    dataset = read_dataset(root, options=ReadOptions(cache_dir=tmp_path / "cache"))
    assert without_empty(by_name(dataset)) == without_empty(expected("train", "val"))
    assert dataset.labels == ("background", *NAMES)
    assert dataset.report.counts.keys() <= {"missing_image"}  # data.yaml names a test split that is not there


@pytest.mark.parametrize("name", [*MOST_USED, *FURTHER])
def test_an_export_gives_images_to_train_and_to_validate_on(name: str, tmp_path: Path) -> None:
    root = (MOST_USED | FURTHER)[name](tmp_path)
    options = ReadOptions(cache_dir=tmp_path / "cache")
    train, val = read_training_data(root, options=options)
    assert val is not None
    assert train.labels == val.labels
    found = [by_name(train), by_name(val)]
    assert found[0].keys().isdisjoint(found[1].keys())
    assert min(part.report.objects for part in (train, val)) >= 1
    assert by_name(read_part(root, "val", options=options, labels=train.labels)) == found[1]


def test_shapes_other_than_boxes_are_boxed(tmp_path: Path) -> None:
    path = cvat_images(tmp_path) / "annotations.xml"
    text = path.read_text()
    shapes = (
        '<polygon label="pear" points="10,10;30,12;20,40"/>'
        '<ellipse label="pear" cx="20" cy="20" rx="5" ry="4"/>'
        '<box label="pear" xtl="10" ytl="20" xbr="30" ybr="30" rotation="90"/>'
        '<mask label="pear" left="3" top="4" width="5" height="6"/>'
        '<polyline label="pear" points="oops"/><tag label="pear"/></image>'
    )
    path.write_text(text.replace("</image>", shapes, 1))
    dataset = read_dataset(tmp_path)
    found = [box for _, box in objects(dataset)["a.jpg"]][2:]
    assert found == [[10, 10, 30, 40], [15, 16, 25, 24], [15, 15, 25, 35], [3, 4, 8, 10]]
    assert dataset.report.counts == {"unreadable_annotation": 1}


def test_what_has_no_box_in_labelme_is_named(tmp_path: Path) -> None:
    path = labelme(tmp_path) / "a.json"
    more = '{"label": "pear", "points": [[1, 2]], "shape_type": "point"}, {"label": "pear"}, '
    circle = '{"label": "plum", "points": [[20, 20], [20, 25]], "shape_type": "circle"}, '
    path.write_text(path.read_text().replace('"shapes": [', f'"shapes": [{more}{circle}'))
    dataset = read_dataset(tmp_path)
    assert objects(dataset)["a.jpg"][0] == ("plum", [15.0, 15.0, 25.0, 25.0])
    assert [fault.where for fault in dataset.report.faults] == ["a.json shape 1", "a.json shape 2"]


def test_faults_of_a_table_are_counted(tmp_path: Path) -> None:
    path = retinanet(tmp_path) / "annotations.csv"
    path.write_text(
        path.read_text() + "\nimages/a.jpg,1,2,x,4,pear\nimages/gone.jpg,1,2,3,4,pear\n,1,2,3,4,pear\n"
    )
    assert read_dataset(tmp_path).report.counts == {"missing_image": 1, "unreadable_annotation": 2}


def test_cvat_for_images_is_no_voc(tmp_path: Path) -> None:
    assert read_dataset(cvat_images(tmp_path)).format == "cvat"
    assert read_dataset(tmp_path / "annotations.xml").format == "cvat"
    with pytest.raises(DatasetError, match="no Pascal VOC"):
        read_dataset(tmp_path, format="voc")


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    path = zipped(tmp_path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DatasetError, match=r"export.zip: the archive cannot be unpacked"):
        read_dataset(path, options=ReadOptions(cache_dir=tmp_path / "cache"))


def test_images_in_folders_are_those_of_the_annotations_folder(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "Annotations/cam2").mkdir()
    (root / "Annotations/a.xml").rename(root / "Annotations/cam2/a.xml")
    (root / "JPEGImages/cam1").mkdir()
    (root / "JPEGImages/a.jpg").rename(root / "JPEGImages/cam1/a.jpg")
    dataset = read_dataset(root)
    assert "a.jpg" not in objects(dataset)
    assert dataset.report.counts == {"missing_image": 1, "missing_annotation": 1}


@pytest.mark.parametrize(
    ("line", "kpt_shape", "box"),
    [
        ("1 0.5 0.5 0.2 0.2 0.9 0.9 0.1 0.1", "[2, 2]", [40.0, 40.0, 60.0, 60.0]),
        ("1 0.5 0.5 0.2 0.2 0.45 0.45 2 0.55 0.55 1", "[2, 3]", [40.0, 40.0, 60.0, 60.0]),
        ("1 0.5 0.5 0.2 0.2 0.45 0.45 2 0.55 0.55 1", None, [40.0, 40.0, 60.0, 60.0]),
        ("1 0.5 0.5 0.2 0.2 0.45 0.45 1", None, [40.0, 40.0, 60.0, 60.0]),
        ("1 0.1 0.2 0.3 0.2 0.3 0.5 0.1 0.5", None, [10.0, 20.0, 30.0, 50.0]),
        ("1 0.1 0.2 0.3 0.2 0.3 0.5", None, [10.0, 20.0, 30.0, 50.0]),
        ("1 0.5 0.5 0.2 0.2", "[17, 3]", [40.0, 40.0, 60.0, 60.0]),
    ],
)
def test_keypoints_outlines_and_turned_boxes_of_yolo(
    line: str, kpt_shape: str | None, box: list[float], tmp_path: Path
) -> None:
    save(tmp_path / "images/train/a.png", (100, 100))
    write(tmp_path / "labels/train/a.txt", line)
    shape = f"kpt_shape: {kpt_shape}\n" if kpt_shape else ""
    write(tmp_path / "data.yaml", f"train: images/train\n{shape}names: {list(NAMES)}\n")
    assert objects(read_dataset(tmp_path)) == {"a.png": [("pear", box)]}
