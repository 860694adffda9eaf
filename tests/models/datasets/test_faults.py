"""Every fault of an annotation is counted, and none stops the reading."""

import json
from pathlib import Path

from models.datasets import AnnotationReport, Fault, read_dataset
from tests.support.data.datasets import (
    Box,
    Picture,
    objects,
    save,
    write,
    write_coco,
    write_voc,
    write_yolo,
    xml,
)

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


def test_background_is_no_class(tmp_path: Path) -> None:
    picture = Picture("a.png", (40, 40), (("background", GOOD), ("pear", GOOD)))
    save(tmp_path / "a.png", picture.size)
    write(tmp_path / "a.xml", xml(picture))
    dataset = read_dataset(tmp_path)
    assert dataset.labels == ("background", "pear")
    assert dataset.report.counts == {"unknown_class": 1}
