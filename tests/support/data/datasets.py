"""Small data sets of the same images and objects in COCO, Pascal VOC and YOLO form."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow

from models.datasets import Dataset, Format, read_dataset

FORMATS: tuple[Format, ...] = ("coco", "voc", "yolo")
NAMES = ("apple", "pear", "plum")
Box = tuple[float, float, float, float]


class Picture(NamedTuple):
    """An image to write: file name, size, (class name, box xyxy px) of each; pixels, else one colour."""

    name: str
    size: tuple[int, int]
    objects: tuple[tuple[str, Box], ...]
    pixels: npt.NDArray[np.uint8] | None = None


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


def save_picture(path: Path, picture: Picture) -> None:
    save(path, picture.size)
    if picture.pixels is not None:
        pillow.fromarray(picture.pixels).save(path)


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


def yolo_line(name: str, box: Box, size: tuple[int, int], names: tuple[str, ...] = NAMES) -> str:
    (x1, y1, x2, y2), (width, height) = box, size
    values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join(map(repr, (names.index(name), *values)))


def coco_document(
    pictures: tuple[Picture, ...], names: tuple[str, ...] = NAMES, crowd: int = -1
) -> dict[str, Any]:
    """Category ids with gaps, in another order than the file's; object `crowd` of each image is one."""
    ids = {name: 3 + 14 * number for number, name in enumerate(names)}
    annotations = [
        {
            "image_id": number,
            "category_id": ids[name],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": int(index == crowd),
        }
        for number, picture in enumerate(pictures)
        for index, (name, (x1, y1, x2, y2)) in enumerate(picture.objects)
    ]
    images = [
        {"id": number, "file_name": picture.name, "width": picture.size[0], "height": picture.size[1]}
        for number, picture in enumerate(pictures)
    ]
    categories = [{"id": ids[name], "name": name} for name in reversed(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(root: Path, splits: Splits = FRUIT, names: tuple[str, ...] = NAMES, crowd: int = -1) -> Path:
    for split, pictures in splits.items():
        for picture in pictures:
            save_picture(root / split / picture.name, picture)
        document = coco_document(pictures, names, crowd)
        write(root / f"annotations/instances_{split}.json", json.dumps(document))
    return root


def write_voc(root: Path, splits: Splits = FRUIT) -> Path:
    for split, pictures in splits.items():
        for picture in pictures:
            save_picture(root / "JPEGImages" / picture.name, picture)
            write(root / f"Annotations/{Path(picture.name).stem}.xml", xml(picture))
        stems = "".join(f"{Path(picture.name).stem}\n" for picture in pictures)
        write(root / f"ImageSets/Main/{split}.txt", stems)
    return root


def write_yolo(root: Path, splits: Splits = FRUIT, names: tuple[str, ...] = NAMES) -> Path:
    for split, pictures in splits.items():
        for picture in pictures:
            save_picture(root / f"images/{split}/{picture.name}", picture)
            lines = [yolo_line(name, box, picture.size, names) for name, box in picture.objects]
            if lines:  # an image without a file of labels has no objects
                write(root / f"labels/{split}/{Path(picture.name).stem}.txt", "\n".join(lines) + "\n")
    write(root / "data.yaml", f"train: images/train\nval: images/val\nnames: {list(names)}\n")
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
