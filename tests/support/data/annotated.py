"""Drawn scenes as annotated images, in three formats."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image as pillow

from models.shapes.scenes import LABELS, Scene, draw_scene


def write_images(folder: Path, scenes: list[Scene]) -> list[Path]:
    folder.mkdir(parents=True)
    files = [folder / f"scene{number}.png" for number in range(len(scenes))]
    for file, scene in zip(files, scenes, strict=True):
        pillow.fromarray(scene.pixels).save(file)
    return files


def write_coco(root: Path, scenes: list[Scene], names: tuple[str, ...] = LABELS, crowd: int = -1) -> Path:
    """COCO's layout, with ids that have gaps; object `crowd` of each image is one."""
    files = write_images(root / "val", scenes)
    images, annotations = [], []
    for number, (file, scene) in enumerate(zip(files, scenes, strict=True)):
        height, width = scene.pixels.shape[:2]
        images.append({"id": 10 * number + 7, "file_name": file.name, "width": width, "height": height})
        for index, (box, label) in enumerate(zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True)):
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 * number + 7,
                    "category_id": 3 * label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(index == crowd),
                }
            )
    categories = [{"id": 3 * label, "name": name} for label, name in enumerate(names) if label]
    (root / "annotations").mkdir()
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val.json").write_text(json.dumps(document))
    return root


def write_voc(root: Path, scenes: list[Scene]) -> Path:
    files = write_images(root / "JPEGImages", scenes)
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for file, scene in zip(files, scenes, strict=True):
        height, width = scene.pixels.shape[:2]
        annotation = ElementTree.Element("annotation")
        ElementTree.SubElement(annotation, "filename").text = file.name
        size = ElementTree.SubElement(annotation, "size")
        for name, value in (("width", width), ("height", height), ("depth", 3)):
            ElementTree.SubElement(size, name).text = str(value)
        for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
            thing = ElementTree.SubElement(annotation, "object")
            ElementTree.SubElement(thing, "name").text = LABELS[label]
            corners = ElementTree.SubElement(thing, "bndbox")
            for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                ElementTree.SubElement(corners, name).text = f"{value:g}"
        ElementTree.ElementTree(annotation).write(root / "Annotations" / f"{file.stem}.xml")
    (root / "ImageSets" / "Main" / "val.txt").write_text("\n".join(file.stem for file in files))
    return root


def write_yolo(root: Path, scenes: list[Scene]) -> Path:
    files = write_images(root / "images" / "val", scenes)
    (root / "labels" / "val").mkdir(parents=True)
    for file, scene in zip(files, scenes, strict=True):
        height, width = scene.pixels.shape[:2]
        lines = [
            f"{label - 1} {(x1 + x2) / 2 / width!r} {(y1 + y2) / 2 / height!r} "
            f"{(x2 - x1) / width!r} {(y2 - y1) / height!r}"
            for (x1, y1, x2, y2), label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True)
        ]
        (root / "labels" / "val" / f"{file.stem}.txt").write_text("\n".join(lines))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(LABELS[1:]))
    (root / "data.yaml").write_text(f"path: .\nval: images/val\nnames:\n{names}")
    return root


def write_small_coco(root: Path, split: str, seed: int, count: int) -> None:
    """`count` small scenes in COCO form; of its eight classes only the first two are named."""
    images, annotations = [], []
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    for index in range(count):
        scene = draw_scene(seed, index)
        height, width = (120, 160) if index % 3 else (160, 120)
        pillow.fromarray(scene.pixels).resize((width, height)).save(root / split / f"{index}.png")
        ratio = np.array([width / scene.pixels.shape[1], height / scene.pixels.shape[0]] * 2)
        images.append({"id": index, "file_name": f"{index}.png", "width": width, "height": height})
        for box, label in zip(scene.boxes * ratio, scene.labels, strict=True):
            x1, y1, x2, y2 = box.tolist()
            row = {"id": len(annotations) + 1, "image_id": index, "category_id": 1 + int(label) % 2}
            annotations.append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1.0, "iscrowd": 0})
    names = [{"id": 1, "name": "even"}, {"id": 2, "name": "odd"}]
    document = {"images": images, "annotations": annotations, "categories": names}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
