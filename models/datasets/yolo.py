"""Reader of YOLO's format: a text file per image, a line per object, in fractions of the image's size.

A line is `class cx cy w h`; or `class x1 y1 x2 y2 …` with three or more points of an outline or a turned box,
of which the bounding box is taken; or `class cx cy w h` and keypoints, which are not used. `kpt_shape` of
data.yaml tells keypoints, else their visibilities of 0 to 2 do. An image without a text file has no objects,
as in programs that train on this format.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from models.datasets.dataset import DatasetError, NoSplitError
from models.datasets.faults import Fault
from models.datasets.layout.binding import bind
from models.datasets.options import BoxOrder
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
from models.datasets.yolo_layout import NO_LABELS, Layout, labels_folder, read_layout

_TEXT = frozenset({".txt"})
_ORDER: BoxOrder = "cxcywh"
_VISIBILITIES = frozenset({0.0, 1.0, 2.0})
_VISIBLE = 2.0  # a visibility that no coordinate can be
_MALFORMED = "neither `class cx cy w h` nor a class and the points of an outline"
Names = dict[int, str]


@dataclass(frozen=True)
class _Context:
    """Shared by all label files: the dataset's root, its classes and keypoints, the faults so far.

    outlines: the label files that hold outlines, whose boxes are not as written.
    """

    root: Path
    names: Names
    keypoints: tuple[int, int] | None
    faults: list[Fault]
    outlines: set[str] = field(default_factory=set)


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
    context = _Context(layout.root, names, layout.keypoints, [])
    chosen = choose_splits(split, layout.splits, root)
    _check_there(split, chosen, layout)
    places = dict.fromkeys(place for name in chosen for place in layout.splits[name])
    paths = [path for place in places for path in _image_paths(place, layout.root, context.faults)]
    distinct = {
        path.parent.resolve() / path.name: path for path in reversed(paths)
    }  # splits may share images
    images = _images(list(reversed(distinct.values())), context)
    order = None if context.outlines else _ORDER
    return RawDataset(tuple(dict.fromkeys(names.values())), images, context.faults, order=order)


def _check_there(split: str | None, chosen: list[str], layout: Layout) -> None:
    """Raise NoSplitError if nothing of the split is there: exports name splits that they do not have."""
    places = [place for name in chosen for place in layout.splits[name]]
    if split is None or any(place.exists() for place in places):
        return
    reason = f"{', '.join(relative_name(place, layout.root) for place in places)} is not there"
    others = tuple(name for name in layout.splits if name not in chosen)
    text = f"{layout.root}: split {split!r} is empty: {reason}; correct its path, or name another split"
    raise NoSplitError(text, others, f"for split {split!r} {reason}")


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
    return bind(lines, list(dict.fromkeys([place.parent, root])))


def _images(paths: list[Path], context: _Context) -> list[RawImage]:
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
            context.faults.extend(_without_labels(path, context.root) for path in inside)
            continue
        found = (_image(path, files.get(path.stem), context) for path in inside)
        images += [image for image in found if image]
        stems.setdefault(labels, set()).update(path.stem for path in [*inside, *images_in(folder)])
    for labels, known in stems.items():
        lone = [path for stem, path in _label_files(labels).items() if stem not in known]
        context.faults.extend(
            Fault("missing_image", relative_name(path, context.root), f"no image {path.stem}.*")
            for path in lone
        )
    return images


def _without_labels(path: Path, root: Path) -> Fault:
    if not is_file(path):
        return Fault("missing_image", relative_name(path, root), f"{path.name} is not there")
    detail = "there is no folder labels/ for it and no .txt beside it"
    return Fault("missing_annotation", relative_name(path, root), detail)


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
        if found := _object(line, place, context):
            objects.append(found)
        elif line.strip():
            detail = f"{_malformed(context.keypoints)}: {line}"
            context.faults.append(Fault("unreadable_annotation", place, detail))
    return RawImage(where, path, tuple(objects), normalised=True)


def _malformed(keypoints: tuple[int, int] | None) -> str:
    if keypoints is None:
        return _MALFORMED
    count, numbers = keypoints
    return f"neither `class cx cy w h` nor that and {count * numbers} numbers of keypoints (kpt_shape)"


def _object(line: str, where: str, context: _Context) -> RawObject | None:
    try:
        number, *values = (float(word) for word in line.split())
    except ValueError:
        return None
    if not number.is_integer():
        return None
    if _has_box(values, context.keypoints):
        box = _corners(values[:4])
    elif context.keypoints is None and len(values) >= 6 and len(values) % 2 == 0:
        box = _around(values)
        context.outlines.add(where)
    else:
        return None
    return RawObject(where, box, context.names.get(int(number), int(number)))


def _has_box(values: list[float], keypoints: tuple[int, int] | None) -> bool:
    """Whether a line begins with a box, alone or with keypoints."""
    if len(values) == 4 or keypoints is not None:
        return len(values) in (4, 4 + math.prod(keypoints or (0,)))
    points, visible = values[4:], values[6::3]
    if len(values) < 7 or len(points) % 3 or not _VISIBILITIES.issuperset(visible):
        return False
    x1, y1, x2, y2 = _corners(values[:4])
    inside = all(
        x1 <= x <= x2 and y1 <= y <= y2
        for x, y, v in zip(points[::3], points[1::3], visible, strict=True)
        if v
    )
    return _VISIBLE in visible or (len(visible) > 1 and inside) or len(values) % 2 == 1


def _corners(values: list[float]) -> Box:
    x, y, width, height = values
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _around(values: list[float]) -> Box:
    """The bounding box of an outline; NaN if a point is not finite."""
    xs, ys = values[0::2], values[1::2]
    if not all(math.isfinite(value) for value in values):
        return math.nan, math.nan, math.nan, math.nan
    return min(xs), min(ys), max(xs), max(ys)
