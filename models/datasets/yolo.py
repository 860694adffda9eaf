"""Reader of YOLO's format: a text file per image, a line per object, in fractions of the image's size.

A line is `class cx cy w h`, or `class x1 y1 x2 y2 …` with three or more points of an outline, of which the
bounding box is taken. An image without a text file has no objects, as in programs that train on this format.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from models.datasets.dataset import BACKGROUND, DatasetError
from models.datasets.faults import Fault
from models.datasets.paths import (
    choose_splits,
    files_in,
    folders_in,
    images_in,
    is_file,
    read_lines,
    read_text,
    relative_name,
)
from models.datasets.raw import Box, RawDataset, RawImage, RawObject
from models.datasets.yolo_layout import NO_LABELS, labels_folder, read_layout

_TEXT = frozenset({".txt"})
_MALFORMED = "neither `class cx cy w h` nor a class and the points of an outline"
Names = dict[int, str]


@dataclass(frozen=True)
class _Context:
    """Shared by all label files: the dataset's root, its classes, the faults so far."""

    root: Path
    names: Names
    faults: list[Fault]


def read_yolo(root: Path, split: str | None, labels: tuple[str, ...] | None) -> RawDataset:
    """Read the images of a split; `labels` are used if the dataset names no classes. Raises DatasetError."""
    layout = read_layout(root)
    names = layout.names or dict(enumerate(labels or ()))
    if not names:
        raise DatasetError(
            f"{root}: the classes have no names; add `names:` to data.yaml, or classes.txt, or give labels"
        )
    if not layout.splits:
        raise DatasetError(
            f"{root}: no images found; looked for train:, val: and test: in data.yaml, images/<split>/, "
            "<split>/images/ and images beside their .txt files"
        )
    faults: list[Fault] = []
    chosen = choose_splits(split, layout.splits, root)
    places = dict.fromkeys(place for name in chosen for place in layout.splits[name])
    paths = [path for place in places for path in _image_paths(place, layout.root, faults)]
    distinct = {
        path.parent.resolve() / path.name: path for path in reversed(paths)
    }  # splits may share images
    images = _images(list(reversed(distinct.values())), layout.root, names, faults)
    kept = tuple(name for name in dict.fromkeys(names.values()) if name != BACKGROUND)
    return RawDataset(kept, images, faults)


def _image_paths(place: Path, root: Path, faults: list[Fault]) -> list[Path]:
    """The images in a folder and its subfolders, or those that a text file lists, one path per line."""
    if place.is_dir():
        inner = [] if place == root else folders_in(place)
        below = [path for folder in inner for path in _image_paths(folder, root, faults)]
        return images_in(place) + below
    if place.suffix.lower() not in _TEXT or not is_file(place):
        faults.append(
            Fault("missing_image", relative_name(place, root), "there is no such folder or list of images")
        )
        return []
    try:
        lines = [line.replace("\\", "/") for line in read_lines(place)]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{place}: the list of images cannot be read: {error}") from error
    return [next(filter(is_file, (place.parent / line, root / line)), place.parent / line) for line in lines]


def _images(paths: list[Path], root: Path, names: Names, faults: list[Fault]) -> list[RawImage]:
    """Read the labels of the images, folder by folder; a label file without an image is a fault."""
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    images: list[RawImage] = []
    stems: dict[Path, set[str]] = {}  # of the images that a folder of labels may belong to
    for folder, inside in folders.items():
        labels = labels_folder(folder)
        files = _label_files(labels)
        if labels == folder and not files:
            detail = "there is no folder labels/ for it and no .txt beside it"
            faults += [Fault("missing_annotation", relative_name(path, root), detail) for path in inside]
            continue
        found = (_image(path, files.get(path.stem), _Context(root, names, faults)) for path in inside)
        images += [image for image in found if image]
        stems.setdefault(labels, set()).update(path.stem for path in [*inside, *images_in(folder)])
    for labels, known in stems.items():
        lone = [path for stem, path in _label_files(labels).items() if stem not in known]
        faults += [
            Fault("missing_image", relative_name(path, root), f"no image {path.stem}.*") for path in lone
        ]
    return images


def _label_files(folder: Path) -> dict[str, Path]:
    """The label files in a folder by their stems, without other text files that are common there."""
    return {
        path.stem: path
        for path in files_in(folder, _TEXT)
        if path.stem.lower() not in NO_LABELS and not path.stem.lower().startswith("readme")
    }


def _image(path: Path, labels: Path | None, context: _Context) -> RawImage | None:
    """The image with its objects, or None and a fault if its label file is not text."""
    if labels is None:
        return RawImage(relative_name(path, context.root), path, ())
    where = relative_name(labels, context.root)
    try:
        lines = read_text(labels).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        context.faults.append(Fault("unreadable_annotation", where, str(error)))
        return None
    objects = []
    for number, line in enumerate(lines, start=1):
        place = f"{where} line {number}"
        if found := _object(line, place, context.names):
            objects.append(found)
        elif line.strip():
            context.faults.append(Fault("unreadable_annotation", place, f"{_MALFORMED}: {line}"))
    return RawImage(where, path, tuple(objects), normalised=True)


def _object(line: str, where: str, names: Names) -> RawObject | None:
    try:
        number, *values = (float(word) for word in line.split())
    except ValueError:
        return None
    if not number.is_integer() or not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)):
        return None
    box = _around(values) if len(values) > 4 else _corners(values)
    return RawObject(where, box, names.get(int(number), int(number)))


def _corners(values: list[float]) -> Box:
    x, y, width, height = values
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _around(values: list[float]) -> Box:
    """The bounding box of an outline; NaN if a point is not finite."""
    xs, ys = values[0::2], values[1::2]
    if not all(math.isfinite(value) for value in values):
        return math.nan, math.nan, math.nan, math.nan
    return min(xs), min(ys), max(xs), max(ys)
