"""Boxes written in another way than the format says are recognised from all of them, or are an error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

from models.datasets import Dataset, DatasetError, ReadOptions, read_dataset
from tests.support.data.datasets import (
    Box,
    Picture,
    coco_document,
    objects,
    save,
    write,
    write_coco,
    write_voc,
    write_yolo,
)

SIZE = (160, 120)
ORIENTATION = 0x0112  # the tag in EXIF


def boxes(count: int, seed: int = 3) -> tuple[tuple[str, Box], ...]:
    """Boxes of 20 to 40 px anywhere in the image."""
    rng = np.random.default_rng(seed)
    sides = rng.integers(20, 41, (count, 2))
    starts = rng.integers(0, np.array(SIZE) - sides + 1)
    corners = np.concatenate([starts, starts + sides], axis=1).astype(float)
    return tuple(("pear", (x1, y1, x2, y2)) for x1, y1, x2, y2 in corners.tolist())


def pictures(count: int = 15, images: int = 2) -> dict[str, tuple[Picture, ...]]:
    return {"train": tuple(Picture(f"{n}.png", SIZE, boxes(count, n + 3)) for n in range(images))}


def found(dataset: Dataset) -> dict[str, list[list[float]]]:
    return {name: [box for _, box in each] for name, each in objects(dataset).items()}


def as_drawn(count: int = 15, images: int = 2) -> dict[str, list[list[float]]]:
    return {
        picture.name: [list(box) for _, box in picture.objects]
        for picture in pictures(count, images)["train"]
    }


def change_coco(root: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    path = root / "annotations/instances_train.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return root


def to_xyxy(document: dict[str, Any]) -> None:
    for entry in document["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]


def to_fractions(document: dict[str, Any]) -> None:
    for entry in document["annotations"]:
        entry["bbox"] = [value / side for value, side in zip(entry["bbox"], SIZE * 2, strict=True)]


def both(document: dict[str, Any]) -> None:
    to_xyxy(document)
    to_fractions(document)


def exchange_axes(document: dict[str, Any]) -> None:
    for entry in document["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [y, x, height, width]


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (to_xyxy, "--boxes xyxy"),
        (to_fractions, "--boxes normalized"),
        (both, "--boxes xyxy"),
        (exchange_axes, "with x and y exchanged"),
    ],
)
def test_other_boxes_in_coco_are_recognised_and_said(
    change: Callable[[dict[str, Any]], None], note: str, tmp_path: Path
) -> None:
    root = change_coco(write_coco(tmp_path, pictures()), change)
    dataset = read_dataset(root)
    assert found(dataset) == as_drawn()
    assert note in " ".join(dataset.report.notes)
    assert dataset.report.faults == ()
    assert note in dataset.report.summary()


def test_width_and_height_in_voc_are_recognised(tmp_path: Path) -> None:
    drawn = pictures()["train"]
    sides = tuple(
        picture._replace(
            objects=tuple((n, (x1, y1, x2 - x1, y2 - y1)) for n, (x1, y1, x2, y2) in picture.objects)
        )
        for picture in drawn
    )
    dataset = read_dataset(write_voc(tmp_path, {"train": sides}))
    assert found(dataset) == as_drawn()
    assert "--boxes xywh" in dataset.report.notes[0]


def test_pixels_in_yolo_are_recognised(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, pictures())
    for path in (root / "labels/train").iterdir():
        rows = np.array([line.split() for line in path.read_text().splitlines()], float)
        rows[:, 1:] *= SIZE * 2
        path.write_text("\n".join(" ".join(map(str, [int(row[0]), *row[1:]])) for row in rows.tolist()))
    dataset = read_dataset(root)
    assert found(dataset) == as_drawn()
    assert "pixels" in dataset.report.notes[0]


def test_few_boxes_that_fit_two_ways_are_an_error_that_an_option_ends(tmp_path: Path) -> None:
    root = change_coco(write_coco(tmp_path, pictures(count=6, images=1)), to_xyxy)
    with pytest.raises(DatasetError, match=r"--boxes xywh or --boxes xyxy"):
        read_dataset(root)
    assert found(read_dataset(root, options=ReadOptions(boxes="xyxy"))) == as_drawn(6, 1)
    assert read_dataset(root, options=ReadOptions(boxes="xywh")).report.counts["clipped"] >= 1


def test_right_boxes_of_large_objects_stay(tmp_path: Path) -> None:
    large = tuple(("pear", (x, 5.0, x + 120.0, 115.0)) for x in np.linspace(0, 40, 20).tolist())
    dataset = read_dataset(write_coco(tmp_path, {"train": (Picture("0.png", SIZE, large),)}))
    assert (len(dataset.images[0].boxes), dataset.report.notes) == (20, ())


def test_boxes_of_other_images_are_an_error(tmp_path: Path) -> None:
    far = tuple((name, (x1 + 150, y1 + 110, x2 + 150, y2 + 110)) for name, (x1, y1, x2, y2) in boxes(30))
    root = write_coco(tmp_path, {"train": (Picture("0.png", SIZE, far),)})
    with pytest.raises(DatasetError, match=r"do not fit their images .* nor in another known way"):
        read_dataset(root)


def test_pixels_that_are_counted_from_one_are_shifted(tmp_path: Path) -> None:
    edge = tuple(("pear", (121.0, 1.0 + n, 161.0, 41.0 + n)) for n in range(8))
    dataset = read_dataset(write_voc(tmp_path, {"train": (Picture("0.png", SIZE, edge),)}))
    assert found(dataset)["0.png"][0] == [120.0, 0.0, 160.0, 40.0]
    assert "1 px is subtracted" in dataset.report.notes[0]


def rotated(root: Path, orientation: int = 6, count: int = 15, states: bool = True) -> Path:
    """Images that EXIF turns, with boxes of their stored pixels, and their size if it is stated."""
    root = write_coco(root, {"train": pictures(count)["train"]})
    document = coco_document(
        tuple(p._replace(name=p.name.replace("png", "jpg")) for p in pictures(count)["train"])
    )
    for entry in document["images"]:
        exif = pillow.Exif()
        exif[ORIENTATION] = orientation
        save(root / "train" / entry["file_name"], SIZE, exif=exif)
        if not states:
            del entry["width"]
    write(root / "annotations/instances_train.json", json.dumps(document))
    return root


@pytest.mark.parametrize("states", [True, False])
def test_boxes_of_stored_pixels_are_rotated_with_their_images(states: bool, tmp_path: Path) -> None:
    dataset = read_dataset(rotated(tmp_path, states=states))
    assert (dataset.images[0].width, dataset.images[0].height) == SIZE[::-1]
    (_, (x1, y1, x2, y2)), *_ = pictures()["train"][0].objects
    assert found(dataset)["0.jpg"][0] == [SIZE[1] - y2, x1, SIZE[1] - y1, x2]
    assert "EXIF rotates 2 of 2 images" in dataset.report.notes[0]
    assert dataset.report.faults == ()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_every_orientation_moves_boxes_as_it_moves_pixels(orientation: int, tmp_path: Path) -> None:
    from models.images.decoder import Limits, decode

    pixels = np.zeros((*SIZE[::-1], 3), np.uint8)
    pixels[16:48, 24:104] = 255
    exif = pillow.Exif()
    exif[ORIENTATION] = orientation
    picture = Picture("0.jpg", SIZE, (("pear", (24.0, 16.0, 104.0, 48.0)),))
    root = write_coco(tmp_path, {"train": (picture,)})
    pillow.fromarray(pixels).save(root / "train/0.jpg", exif=exif, quality=100)
    box = read_dataset(root, options=ReadOptions(exif="ignore")).images[0].boxes[0].astype(int)
    shown = decode((root / "train/0.jpg").read_bytes(), Limits(100_000)).pixels
    assert shown[box[1] : box[3], box[0] : box[2]].mean() > 250
    assert shown.sum() / 255 / 3 == pytest.approx(80 * 32, rel=0.02)


def test_boxes_that_fit_either_orientation_are_an_error_that_an_option_ends(tmp_path: Path) -> None:
    middle = (("pear", (50.0, 40.0, 90.0, 80.0)),)
    root = rotated(tmp_path)
    path = root / "annotations/instances_train.json"
    document = json.loads(path.read_text())
    document["annotations"] = coco_document((Picture("0.jpg", SIZE, middle),))["annotations"]
    path.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=r"EXIF rotates 2 of 2 images.*--exif ignore.*--exif apply"):
        read_dataset(root)
    assert found(read_dataset(root, options=ReadOptions(exif="apply")))["0.jpg"] == [[50, 40, 90, 80]]
    assert found(read_dataset(root, options=ReadOptions(exif="ignore")))["0.jpg"] == [[40, 50, 80, 90]]


def test_boxes_of_images_before_they_were_resized_are_scaled(tmp_path: Path) -> None:
    root = write_coco(tmp_path, pictures())
    for n in range(2):
        save(root / f"train/{n}.png", (80, 60))
    dataset = read_dataset(root)
    assert found(dataset) == {
        name: [[v / 2 for v in box] for box in each] for name, each in as_drawn().items()
    }
    assert "scaled to the images" in dataset.report.notes[0]


def test_boxes_of_images_that_were_turned_are_an_error(tmp_path: Path) -> None:
    root = write_coco(tmp_path, pictures())
    for n in range(2):
        save(root / f"train/{n}.png", SIZE[::-1])
    with pytest.raises(DatasetError, match=r"width and height exchanged.*rotated after they were annotated"):
        read_dataset(root)


def test_exchanged_sizes_alone_are_a_fault(tmp_path: Path) -> None:
    def exchange(document: dict[str, Any]) -> None:
        for entry in document["images"]:
            entry["width"], entry["height"] = entry["height"], entry["width"]

    dataset = read_dataset(change_coco(write_coco(tmp_path, pictures()), exchange))
    assert found(dataset) == as_drawn()
    assert dataset.report.counts == {"size_mismatch": 2}
    assert "width and height are exchanged" in dataset.report.faults[0].detail


def test_fractions_of_turned_images_are_taken_as_displayed_and_said(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, pictures())
    exif = pillow.Exif()
    exif[ORIENTATION] = 6
    for n in range(2):
        (root / f"images/train/{n}.png").unlink()
        save(root / f"images/train/{n}.jpg", SIZE, exif=exif)
    dataset = read_dataset(root)
    assert "EXIF rotates 2 of 2 images; the boxes are fractions" in dataset.report.notes[0]
    stored = read_dataset(root, options=ReadOptions(exif="ignore"))
    (_, (x1, y1, x2, y2)), *_ = pictures()["train"][0].objects
    assert found(stored)["0.jpg"][0] == [SIZE[1] - y2, x1, SIZE[1] - y1, x2]
    assert stored.report.notes == ()
