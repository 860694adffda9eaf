"""The three formats give the same data set; what cannot be read is an error that says why."""

import json
from pathlib import Path

import pytest

from models.datasets import DatasetError, Format, read_dataset
from tests.support.data.datasets import (
    FORMATS,
    FRUIT,
    NAMES,
    WRITERS,
    coco_document,
    counts,
    expected,
    objects,
    write,
    write_coco,
    write_voc,
    write_yolo,
)


@pytest.mark.parametrize("format", FORMATS)
def test_formats_say_the_same(format: Format, tmp_path: Path) -> None:
    root = WRITERS[format](tmp_path)
    dataset = read_dataset(root)
    assert (dataset.format, dataset.labels) == (format, ("background", *NAMES))
    assert objects(dataset) == expected("train", "val")
    assert {image.path.name: (image.width, image.height) for image in dataset.images} == {
        picture.name: picture.size for pictures in FRUIT.values() for picture in pictures
    }
    report = dataset.report
    assert (report.images, report.objects, report.empty_images, report.faults) == (3, 4, 1, ())
    assert report.per_class == {"apple": 1, "pear": 2, "plum": 1}
    empty = next(image for image in dataset.images if image.path.name == "b two.png")
    assert empty.boxes.shape == (0, 4)
    assert (str(empty.boxes.dtype), str(empty.labels.dtype)) == ("float32", "int64")


@pytest.mark.parametrize("format", FORMATS)
def test_a_split_is_read_alone_and_labels_choose_the_classes(format: Format, tmp_path: Path) -> None:
    root = WRITERS[format](tmp_path)
    assert objects(read_dataset(root, "train", labels=NAMES)) == expected("train")
    assert objects(read_dataset(root, "val", format, ("background", *NAMES))) == expected("val")
    assert objects(read_dataset(root, "validation", labels=NAMES)) == expected("val")
    with pytest.raises(DatasetError, match=r"no split 'test'; there are: train, val"):
        read_dataset(root, "test")
    dataset = read_dataset(root, labels=("plum", "pear"))
    assert dataset.labels == ("background", "plum", "pear")
    assert dataset.report.counts == {"unknown_class": 1}
    assert "'apple'" in dataset.report.faults[0].detail
    assert objects(dataset)["a.jpg"] == [("pear", [4.25, 5.5, 20.75, 40.0])]


@pytest.mark.parametrize("labels", [(), ("background",), ("apple", "background")])
def test_labels_without_a_class_are_refused(labels: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="give class names"):
        read_dataset(write_voc(tmp_path), labels=labels)


@pytest.mark.parametrize("format", FORMATS)
def test_a_dataset_without_a_usable_image_is_an_error(format: Format, tmp_path: Path) -> None:
    root = WRITERS[format](tmp_path)
    for path in [path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".png")]:
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"no usable image in the whole dataset[\s\S]*3 unreadable_image"):
        read_dataset(root)


@pytest.mark.parametrize("content", [[], ["notes.txt"], ["a.jpg"], ["package.json"], ["config.yaml"]])
def test_a_folder_without_annotations_is_an_error(content: list[str], tmp_path: Path) -> None:
    for name in content:
        write(tmp_path / name, "nothing")
    with pytest.raises(DatasetError, match=r"looked for COCO .*Pascal VOC .*YOLO"):
        read_dataset(tmp_path)
    for format in FORMATS:
        with pytest.raises(DatasetError):
            read_dataset(tmp_path, format=format, labels=NAMES)


def test_a_folder_with_several_formats_asks_which(tmp_path: Path) -> None:
    write_yolo(write_voc(tmp_path))
    with pytest.raises(DatasetError, match=r"several formats \(voc, yolo\); name the format"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, format="voc").format == "voc"
    assert read_dataset(tmp_path, format="yolo").format == "yolo"


def test_what_is_not_there_or_not_a_format_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        read_dataset(tmp_path / "none")
    with pytest.raises(DatasetError, match="allowed are coco, voc, yolo"):
        read_dataset(tmp_path, format="pascal")  # type: ignore[arg-type]  # what the command line may pass on
    with pytest.raises(DatasetError, match="no annotations"):
        read_dataset(write(tmp_path / "a.csv", "a,b"))


@pytest.mark.parametrize("name", ["classes.txt", "train.txt", "ImageSets/Main/train.txt"])
def test_a_list_that_is_no_text_is_an_error(name: str, tmp_path: Path) -> None:
    if name == "train.txt":
        write(write_yolo(tmp_path) / "data.yaml", "train: train.txt\nnames: [apple, pear, plum]\n")
    elif name == "classes.txt":
        (write_yolo(tmp_path) / "data.yaml").unlink()
    else:
        write_voc(tmp_path)
    (tmp_path / name).write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_dataset(tmp_path, "train")


def test_crowds_and_difficult_objects_are_kept_apart(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco")
    path = root / "annotations/instances_train.json"
    document = json.loads(path.read_text())
    document["annotations"][1]["iscrowd"] = 1
    path.write_text(json.dumps(document))
    coco = read_dataset(root, "train")
    assert coco.images[0].crowd.tolist() == [False, True]
    assert coco.report.ignored == 1
    root = write_voc(tmp_path / "voc")
    path = root / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<name>apple", "<difficult>1</difficult><name>apple"))
    assert read_dataset(root, "train").images[0].crowd.tolist() == [False, True]


def test_annotations_need_not_name_a_size(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc")
    path = root / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<size>", "<was>").replace("</size>", "</was>"))
    assert counts(root) == {}
    document = coco_document(FRUIT["train"])
    document["images"] = [
        {"id": entry["id"], "file_name": entry["file_name"]} for entry in document["images"]
    ]
    root = write_coco(tmp_path / "coco")
    write(root / "annotations/instances_train.json", json.dumps(document))
    assert objects(read_dataset(root)) == expected("train", "val")
    assert counts(root) == {}


@pytest.mark.parametrize("format", FORMATS)
def test_windows_lines_marks_and_hidden_files_do_not_matter(format: Format, tmp_path: Path) -> None:
    root = WRITERS[format](tmp_path)
    texts = [path for path in root.rglob("*") if path.suffix in (".json", ".xml", ".txt", ".yaml")]
    for path in texts:
        text = path.read_text().replace("\n", "\r\n")
        path.write_text(text, encoding="utf-8-sig", newline="")
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")  # as macOS leaves them on foreign disks
    assert objects(read_dataset(root, "val", labels=NAMES)) == expected("val")
    dataset = read_dataset(root)
    assert objects(dataset) == expected("train", "val")
    assert dataset.report.faults == ()
