"""Datasets: three formats say the same, every fault is counted and none stops the reading."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image as pillow
from PIL.PngImagePlugin import PngInfo

from models.datasets import AnnotationReport, Dataset, DatasetError, Fault, Format, read_dataset
from models.datasets.image_size import displayed_size
from models.images.decoder import ImageError, Limits, decode

ROOT = Path(__file__).parents[3]
FORMATS: tuple[Format, ...] = ("coco", "voc", "yolo")
NAMES = ("apple", "pear", "plum")
Box = tuple[float, float, float, float]
ORIENTATION = 0x0112


class Picture(NamedTuple):
    """An image to write: file name, size, and (class name, box xyxy in pixels) of each object."""

    name: str
    size: tuple[int, int]
    objects: tuple[tuple[str, Box], ...]


Splits = Mapping[str, tuple[Picture, ...]]
FRUIT: Splits = {
    "train": (
        Picture("a.jpg", (64, 48), (("pear", (4.25, 5.5, 20.75, 40.0)), ("apple", (30.0, 1.0, 64.0, 48.0)))),
        Picture("b two.png", (33, 71), ()),
    ),
    "val": (
        Picture("C.JPG", (90, 50), (("plum", (0.0, 0.0, 90.0, 50.0)), ("pear", (10.5, 3.0, 11.5, 44.125)))),
    ),
}


def save(path: Path, size: tuple[int, int], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.new("RGB", size, (90, 120, 40)).save(path, **options)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def xml(picture: Picture, extra: str = "", size: tuple[int, int] | None = None) -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in picture.objects
    )
    width, height = size or picture.size
    return (
        f"<annotation><filename>{picture.name}</filename><path>/gone/{picture.name}</path>"
        f"<size><width>{width}</width><height>{height}</height></size>{objects}{extra}</annotation>"
    )


def yolo_line(name: str, box: Box, size: tuple[int, int]) -> str:
    (x1, y1, x2, y2), (width, height) = box, size
    values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join([str(NAMES.index(name)), *(f"{value:.8f}" for value in values)])


def coco_document(pictures: tuple[Picture, ...], **changes: Any) -> dict[str, Any]:
    """Category ids with gaps, in another order than the file's."""
    ids = {"apple": 3, "pear": 17, "plum": 90}
    annotations = [
        {"image_id": number, "category_id": ids[name], "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
        for number, picture in enumerate(pictures)
        for name, (x1, y1, x2, y2) in picture.objects
    ]
    images = [
        {"id": number, "file_name": picture.name, "width": picture.size[0], "height": picture.size[1]}
        for number, picture in enumerate(pictures)
    ]
    categories = [{"id": ids[name], "name": name} for name in reversed(NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories, **changes}


def write_coco(root: Path, splits: Splits = FRUIT) -> Path:
    for split, pictures in splits.items():
        for picture in pictures:
            save(root / split / picture.name, picture.size)
        write(root / f"annotations/instances_{split}.json", json.dumps(coco_document(pictures)))
    return root


def write_voc(root: Path, splits: Splits = FRUIT) -> Path:
    for split, pictures in splits.items():
        for picture in pictures:
            save(root / "JPEGImages" / picture.name, picture.size)
            write(root / f"Annotations/{Path(picture.name).stem}.xml", xml(picture))
        stems = "".join(f"{Path(picture.name).stem}\n" for picture in pictures)
        write(root / f"ImageSets/Main/{split}.txt", stems)
    return root


def write_yolo(root: Path, splits: Splits = FRUIT) -> Path:
    for split, pictures in splits.items():
        for picture in pictures:
            save(root / f"images/{split}/{picture.name}", picture.size)
            lines = [yolo_line(name, box, picture.size) for name, box in picture.objects]
            if lines:  # an image without a file of labels has no objects
                write(root / f"labels/{split}/{Path(picture.name).stem}.txt", "\n".join(lines) + "\n")
    write(root / "data.yaml", f"train: images/train\nval: images/val\nnc: 3\nnames: {list(NAMES)}\n")
    return root


WRITERS: dict[Format, Callable[[Path], Path]] = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}


def objects(dataset: Dataset) -> dict[str, list[tuple[str, list[float]]]]:
    """By image name, the class name and box of each object, boxes to 1e-3 px."""
    return {
        image.path.name: [
            (dataset.labels[label], [round(value, 3) for value in box])
            for label, box in zip(image.labels.tolist(), image.boxes.tolist(), strict=True)
        ]
        for image in dataset.images
    }


def expected(*splits: str) -> dict[str, list[tuple[str, list[float]]]]:
    return {
        picture.name: [(name, list(box)) for name, box in picture.objects]
        for split in splits
        for picture in FRUIT[split]
    }


def counts(root: Path, **options: Any) -> dict[str, int]:
    return {str(kind): count for kind, count in read_dataset(root, **options).report.counts.items()}


# The same data in three formats


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
def test_a_split_is_read_alone(format: Format, tmp_path: Path) -> None:
    root = WRITERS[format](tmp_path)
    assert objects(read_dataset(root, "train", labels=NAMES)) == expected("train")
    assert objects(read_dataset(root, "val", format, ("background", *NAMES))) == expected("val")
    assert objects(read_dataset(root, "validation", labels=NAMES)) == expected("val")


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_split_names_those_there_are(format: Format, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no split 'test'; there are: train, val"):
        read_dataset(WRITERS[format](tmp_path), "test")


@pytest.mark.parametrize("format", FORMATS)
def test_given_labels_set_the_order_and_the_classes(format: Format, tmp_path: Path) -> None:
    dataset = read_dataset(WRITERS[format](tmp_path), labels=("plum", "pear"))
    assert dataset.labels == ("background", "plum", "pear")
    assert dataset.report.counts == {"unknown_class": 1}
    assert "'apple'" in dataset.report.faults[0].detail
    assert objects(dataset)["a.jpg"] == [("pear", [4.25, 5.5, 20.75, 40.0])]


def test_voc_classes_are_those_of_the_split(tmp_path: Path) -> None:
    assert read_dataset(write_voc(tmp_path), "val").labels == ("background", "pear", "plum")


@pytest.mark.parametrize("labels", [(), ("background",), ("apple", "background")])
def test_labels_without_a_class_are_refused(labels: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="give class names"):
        read_dataset(write_voc(tmp_path), labels=labels)


# Faults

GOOD: Box = (10.0, 10.0, 30.0, 30.0)
FAULTY: tuple[tuple[str, Box], ...] = (
    ("pear", GOOD),
    ("pear", GOOD),  # duplicate
    ("apple", GOOD),  # another class in the same place is none
    ("pear", (20.0, 20.0, 20.0, 40.0)),  # degenerate: no width
    ("pear", (40.0, 20.0, 30.0, 40.0)),  # degenerate: negative
    ("pear", (float("nan"), 1.0, 5.0, 5.0)),  # degenerate: not a number
    ("plum", (-20.0, 5.0, 10.0, 20.0)),  # clipped to 0 5 10 20
    ("plum", (50.0, 40.0, 64.5, 48.75)),  # within a pixel of the border: cut, not counted
    ("apple", (70.0, 50.0, 80.0, 60.0)),  # outside
    ("apple", (-9.0, 5.0, 0.0, 20.0)),  # outside: touches the border
)
KEPT = [
    ("pear", [10.0, 10.0, 30.0, 30.0]),
    ("apple", [10.0, 10.0, 30.0, 30.0]),
    ("plum", [0.0, 5.0, 10.0, 20.0]),
    ("plum", [50.0, 40.0, 64.0, 48.0]),
]
BOX_FAULTS = {"degenerate": 3, "clipped": 1, "outside": 2, "duplicate": 1}
BROKEN = {
    "train": (
        Picture("faulty.png", (64, 48), FAULTY),
        Picture("gone.png", (64, 48), (("pear", GOOD),)),
        Picture("damaged.jpg", (64, 48), (("pear", GOOD),)),
    )
}


def damage(root: Path) -> Path:
    """One image is lost, one is damaged."""
    next(root.rglob("gone.png")).unlink()
    next(root.rglob("damaged.jpg")).write_bytes(b"\xff\xd8\xff\xe0 no jpeg")
    return root


def test_faults_of_coco_are_counted(tmp_path: Path) -> None:
    root = damage(write_coco(tmp_path, BROKEN))
    path = root / "annotations/instances_train.json"
    document = json.loads(path.read_text())
    document["images"][0]["width"] = 640
    document["images"] += [{"id": 7, "file_name": "faulty.png"}, {"id": 8}, "nonsense"]
    document["annotations"] += [
        {"image_id": 0, "category_id": 4, "bbox": [1, 1, 5, 5]},
        {"image_id": 99, "category_id": 3, "bbox": [1, 1, 5, 5]},
        {"image_id": 0, "category_id": 3, "bbox": [1, 1, 5]},
        {"image_id": 0, "category_id": 3, "bbox": [1, 1, "5", 5]},
        {"image_id": 0, "category_id": 3, "bbox": [1, 1, 10**400, 5]},
        {"image_id": [0], "category_id": 3, "bbox": [1, 1, 5, 5]},
        None,
    ]
    document["categories"].append({"id": 5})
    path.write_text(json.dumps(document))
    dataset = read_dataset(root)
    assert objects(dataset) == {"faulty.png": KEPT}
    assert dataset.report.counts == BOX_FAULTS | {
        "unknown_class": 1,
        "duplicate_image": 1,
        "size_mismatch": 1,
        "missing_image": 2,
        "unreadable_image": 1,
        "unreadable_annotation": 8,
    }


def test_faults_of_voc_are_counted(tmp_path: Path) -> None:
    root = damage(write_voc(tmp_path, BROKEN))
    nameless = "<object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    boxless = "<object><name>pear</name></object>"
    words = nameless.replace("<bndbox>", "<name>pear</name><bndbox>").replace(">9<", ">nine<")
    extra = nameless + boxless + words
    write(root / "Annotations/faulty.xml", xml(BROKEN["train"][0], extra, (0, 0)))
    save(root / "JPEGImages/plain.png", (20, 20))
    for stem, text in {
        "cut": "<annotation><object>",
        "other": "<html/>",
        "empty": "",
        "binary": "\0\1\2",
        "codec": '<?xml version="1.0" encoding="no-such"?><annotation/>',
        "doctype": '<!DOCTYPE annotation [<!ENTITY a "b">]><annotation>&a;</annotation>',
    }.items():
        save(root / f"JPEGImages/{stem}.png", (20, 20))
        write(root / f"Annotations/{stem}.xml", text)
    found = BOX_FAULTS | {
        "size_mismatch": 1,
        "missing_image": 1,
        "unreadable_image": 1,
        "missing_annotation": 1,
        "unreadable_annotation": 9,
    }
    dataset = read_dataset(root)
    assert objects(dataset) == {"faulty.png": KEPT}
    assert dataset.report.counts == found
    listed = "faulty gone damaged plain cut other empty binary codec doctype ghost"
    write(root / "ImageSets/Main/train.txt", "\n".join(listed.split()))
    dataset = read_dataset(root, "train")
    assert objects(dataset) == {"faulty.png": KEPT}
    assert dataset.report.counts == found | {"missing_annotation": 2}


def test_faults_of_yolo_are_counted(tmp_path: Path) -> None:
    root = damage(write_yolo(tmp_path, BROKEN))
    path = root / "labels/train/faulty.txt"
    lines = [
        "7 0.5 0.5 0.1 0.1",
        "-1 0.5 0.5 0.1 0.1",
        "1 0.5 0.5 0.1",
        "pear 0.5 0.5 0.1 0.1",
        "1.5 0 0 1 1",
    ]
    lines += ["1 0.5 0.5 0.1 0.1 0.9", "1 0.1 0.1 0.2 nan 0.3 0.3", ""]
    path.write_text(path.read_text() + "\n".join(lines))
    save(root / "images/train/binary.png", (20, 20))
    (root / "labels/train/binary.txt").write_bytes(b"\xff\xfe\x00\xd8")
    dataset = read_dataset(root, "train")
    assert objects(dataset) == {"faulty.png": KEPT}
    assert dataset.report.counts == BOX_FAULTS | {
        "degenerate": 4,
        "unknown_class": 2,
        "missing_image": 1,  # labels whose image is gone
        "unreadable_image": 1,
        "unreadable_annotation": 5,
    }
    dataset = read_dataset(root)
    assert dataset.report.counts["missing_image"] == 2  # data.yaml names images/val, which is not there


def test_an_entity_bomb_is_refused_unread(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12))
    bomb = f'<!DOCTYPE annotation [<!ENTITY a0 "ha">{entities}]><annotation>&a12;</annotation>'
    (root / "Annotations/a.xml").write_text(bomb, encoding="utf-16")
    report = read_dataset(root).report
    assert report.counts == {"unreadable_annotation": 1}
    assert "<!DOCTYPE" in report.faults[0].detail


def test_the_report_is_short_and_names_examples(tmp_path: Path) -> None:
    report = read_dataset(damage(write_yolo(tmp_path, BROKEN)), "train").report
    assert report.summary().splitlines()[:6] == [
        "1 images, 0 of them without objects",
        "4 objects: apple 1, pear 1, plum 2",
        "  3 degenerate (box without an area, or not of numbers: skipped)",
        "    labels/train/faulty.txt line 4: box 0.3125 0.416667 0.3125 0.833333",
        "    labels/train/faulty.txt line 5: box 0.625 0.416667 0.46875 0.833333",
        "    labels/train/faulty.txt line 6: box nan 0.0208333 nan 0.104167",
    ]
    assert "gone.txt: no image gone.*" in report.summary()
    table = json.loads(json.dumps(report.as_dict()))
    assert table["faults"]["degenerate"]["count"] == 3
    assert table["per_class"] == {"apple": 1, "pear": 1, "plum": 2}


def test_many_faults_make_no_long_report() -> None:
    faults = tuple(Fault("outside", f"{n}.xml\x1b[2J\ud800", "x" * 1000) for n in range(50))
    text = AnnotationReport(1, 2, 0, 1, {"pear": 2}, faults).summary()
    assert "50 outside" in text
    assert "… and 47 more" in text
    assert "2 objects, 1 of them crowd or difficult" in text
    assert "\x1b" not in text
    assert len(text.encode()) < 1500


@pytest.mark.parametrize("format", FORMATS)
def test_a_dataset_without_a_usable_image_is_an_error(format: Format, tmp_path: Path) -> None:
    root = WRITERS[format](tmp_path)
    for path in [path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".png")]:
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"no usable image in the whole dataset[\s\S]*3 unreadable_image"):
        read_dataset(root)


# What is found, and what is not


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


def test_background_is_no_class(tmp_path: Path) -> None:
    picture = Picture("a.png", (40, 40), (("background", GOOD), ("pear", GOOD)))
    save(tmp_path / "a.png", picture.size)
    write(tmp_path / "a.xml", xml(picture))
    dataset = read_dataset(tmp_path)
    assert dataset.labels == ("background", "pear")
    assert dataset.report.counts == {"unknown_class": 1}


def test_voc_beside_the_images_and_in_folders(tmp_path: Path) -> None:
    for split, pictures in FRUIT.items():
        for picture in pictures:
            save(tmp_path / split / picture.name, picture.size)
            write(tmp_path / split / f"{Path(picture.name).stem}.XML", xml(picture))
    assert objects(read_dataset(tmp_path, "val")) == expected("val")
    assert objects(read_dataset(tmp_path)) == expected("train", "val")
    assert objects(read_dataset(tmp_path / "train")) == expected("train")
    with pytest.raises(DatasetError, match="not split"):
        read_dataset(tmp_path / "train", "train")


def test_only_files_of_the_voc_challenge_count_from_one(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    path = root / "Annotations/a.xml"
    source = "<source><annotation>PASCAL VOC2007</annotation></source>"
    path.write_text(path.read_text().replace("<size>", f"{source}<size>"))
    assert objects(read_dataset(root))["a.jpg"][0] == ("pear", [3.25, 4.5, 20.75, 40.0])


def test_a_stale_filename_in_voc_is_asked_last(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    swapped = FRUIT["train"][0]._replace(name="C.JPG")
    write(root / "Annotations/a.xml", xml(swapped))  # names an image that is there, but not this one
    (root / "Annotations/C.xml").rename(root / "Annotations/0003.xml")  # this one's name is of no image
    dataset = read_dataset(root)
    assert objects(dataset) == expected("train", "val")
    assert dataset.report.faults == ()


def test_parts_of_a_voc_object_are_no_objects(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    path = root / "Annotations/a.xml"
    part = "<part><name>leaf</name><bndbox><xmin>1</xmin></bndbox></part><name>pear"
    path.write_text(path.read_text().replace("<name>pear", part))
    assert objects(read_dataset(root)) == expected("train", "val")


def test_voc_lists_with_flags_suffixes_and_blank_lines(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    write(root / "ImageSets/Main/odd.txt", "\ufeffa.jpg\r\n\r\nb two  -1\r\nJPEGImages/C.JPG\r\n\r\n")
    assert objects(read_dataset(root, "odd")) == expected("train", "val")


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


# What lies on disks


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_the_displayed_one(orientation: int, tmp_path: Path) -> None:
    exif = pillow.Exif()
    exif[ORIENTATION] = orientation
    picture = Picture(
        "a.jpg", (48, 64) if orientation >= 5 else (64, 48), (("pear", (1.0, 40.0, 9.0, 47.0)),)
    )
    save(tmp_path / "a.jpg", (64, 48), exif=exif)
    write(tmp_path / "a.xml", xml(picture))
    image = read_dataset(tmp_path).images[0]
    assert (image.width, image.height) == picture.size
    assert counts(tmp_path) == {}


XMP = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
TURNED = pillow.Exif()
TURNED[ORIENTATION] = 6
TEXT = PngInfo()
TEXT.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
EXIF_HEAD = b"Exif\0\0II*\0\x08\0\0\0"
LONG_TAG = b"\1\0\x12\x01\4\0\1\0\0\0\6\0\0\0\0\0\0\0"
SAVED: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("a.jpg", {}),
    "progressive jpeg": ("a.jpg", {"progressive": True}),
    "jpeg with a comment": ("a.jpg", {"comment": b"\xff\xc0" * 100}),
    "jpeg turned by XMP": ("a.jpg", {"xmp": XMP.partition(b"\0")[2]}),
    "jpeg with broken EXIF": ("a.jpg", {"exif": b"Exif\0\0II*\0\xff\xff\xff\xff"}),
    "jpeg with EXIF cut short": ("a.jpg", {"exif": TURNED.tobytes()[:14]}),
    "jpeg turned by EXIF": ("a.jpg", {"exif": TURNED}),
    "jpeg turned by EXIF in 32 bits": ("a.jpg", {"exif": EXIF_HEAD + LONG_TAG}),
    "jpeg with EXIF of another header": ("a.jpg", {"exif": EXIF_HEAD.replace(b"*", b"+") + LONG_TAG}),
    "jpeg with two orientations in one": (
        "a.jpg",
        {"exif": EXIF_HEAD + LONG_TAG.replace(b"\1\0\0\0", b"\2\0\0\0")},
    ),
    "png": ("a.png", {}),
    "png turned by EXIF": ("a.png", {"exif": TURNED}),
    "png turned by XMP": ("a.png", {"pnginfo": TEXT}),
    "webp turned": ("a.webp", {"exif": TURNED}),
    "bmp": ("a.bmp", {}),
    "gif": ("a.gif", {}),
    "tiff": ("a.tiff", {}),
    "jpeg of another name": ("a.png", {"format": "JPEG"}),
}


@pytest.mark.parametrize(("name", "options"), SAVED.values(), ids=SAVED)
def test_sizes_are_those_of_the_decoder(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = save(tmp_path / name, (37, 21), **options)
    image = decode(path.read_bytes(), Limits(10_000))
    assert displayed_size(path) == (image.width, image.height)


def test_a_second_exif_is_left_to_the_decoder(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", (37, 21), exif=TURNED)
    content = path.read_bytes()
    start = content.index(b"\xff\xe1")
    length = int.from_bytes(content[start + 2 : start + 4], "big") + 2
    path.write_bytes(content[:start] + 2 * content[start : start + length] + content[start + length :])
    image = decode(path.read_bytes(), Limits(10_000))
    assert displayed_size(path) == (image.width, image.height)


def test_the_size_of_a_plain_image_costs_no_decoding(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        path = save(tmp_path / name, (300, 200))
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(ImageError):
            decode(path.read_bytes(), Limits(100_000))
        assert displayed_size(path) == (300, 200)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xda\0\0"]
)
def test_what_has_no_size_is_no_image(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError):
        displayed_size(path)


def test_reading_needs_no_torch() -> None:
    program = "import sys, models.datasets; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)
