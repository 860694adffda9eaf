"""Drawn scenes as annotated images, in three formats."""

from pathlib import Path

import numpy as np
from PIL import Image as pillow

from models.shapes.scenes import LABELS, Scene, draw_scene
from tests.support.data import datasets
from tests.support.data.datasets import Picture, Splits, save_picture


def splits_of(scenes: list[Scene], names: tuple[str, ...] = LABELS) -> Splits:
    """The scenes as the split `val`."""
    pictures = []
    for number, scene in enumerate(scenes):
        rows = zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True)
        height, width = scene.pixels.shape[:2]
        objects = tuple((names[label], tuple(box)) for box, label in rows)
        pictures.append(Picture(f"scene{number}.png", (width, height), objects, scene.pixels))
    return {"val": tuple(pictures)}


def write_images(folder: Path, scenes: list[Scene]) -> list[Path]:
    [pictures] = splits_of(scenes).values()
    for picture in pictures:
        save_picture(folder / picture.name, picture)
    return [folder / picture.name for picture in pictures]


def write_coco(root: Path, scenes: list[Scene], names: tuple[str, ...] = LABELS, crowd: int = -1) -> Path:
    return datasets.write_coco(root, splits_of(scenes, names), names[1:], crowd)


def write_voc(root: Path, scenes: list[Scene]) -> Path:
    return datasets.write_voc(root, splits_of(scenes))


def write_yolo(root: Path, scenes: list[Scene]) -> Path:
    return datasets.write_yolo(root, splits_of(scenes), LABELS[1:])


def write_small_coco(root: Path, split: str, seed: int, count: int) -> None:
    """`count` small scenes in COCO form; of its eight classes there are only `even` and `odd`."""
    pictures = []
    for index in range(count):
        scene = draw_scene(seed, index)
        size = (160, 120) if index % 3 else (120, 160)
        pixels = np.asarray(pillow.fromarray(scene.pixels).resize(size))
        boxes = scene.boxes * np.array([*size] * 2) / np.array([*scene.pixels.shape[1::-1]] * 2)
        rows = zip(boxes.tolist(), scene.labels.tolist(), strict=True)
        objects = tuple((("even", "odd")[label % 2], tuple(box)) for box, label in rows)
        pictures.append(Picture(f"{index}.png", size, objects, pixels))
    datasets.write_coco(root, {split: tuple(pictures)}, ("even", "odd"))
