"""Reader of "CVAT for images": one XML file with the images, their boxes and outlines, in pixels.

Of an outline, a mask or a rotated box the bounding box is taken; points and lines without an area are faults.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from models.datasets.dataset import DatasetError
from models.datasets.faults import Fault
from models.datasets.layout.binding import bind
from models.datasets.layout.xml_files import PARSE_ERRORS, parse_xml
from models.datasets.paths import UNSPLIT, choose_splits, files_in, relative_name, subfolder
from models.datasets.raw import Box, RawDataset, RawImage, RawObject

_HEAD = 2**12  # bytes in which the root element begins
_TAGS = ("tag", "skeleton")  # of the whole image, or of points: they have no box
_OUTLINES = frozenset({"polygon", "polyline", "points", "cuboid"})


def find_cvat(root: Path) -> list[Path]:
    """The XML files in CVAT's format: `root` itself, or those in a folder."""
    files = [root] if root.is_file() else [*files_in(root, {".xml"}), *_in_annotations(root)]
    return [path for path in files if path.suffix.lower() == ".xml" and _is_cvat(path)]


def _in_annotations(root: Path) -> list[Path]:
    folder = subfolder(root, "annotations")
    return files_in(folder, {".xml"}) if folder else []


def _is_cvat(path: Path) -> bool:
    with path.open("rb") as file:
        return b"<annotations" in file.read(_HEAD)


def read_cvat(root: Path, split: str | None) -> RawDataset:
    """Read the images of a split (CVAT's subset); raises DatasetError."""
    files = find_cvat(root)
    if not files:
        raise DatasetError(f"{root}: no XML file of CVAT for images; looked for annotations.xml")
    faults: list[Fault] = []
    trees = {path: tree for path in files if (tree := _parse(path, root, faults)) is not None}
    if not trees:
        raise DatasetError(f"{root}: no file could be read: {'; '.join(fault.detail for fault in faults)}")
    subsets = dict.fromkeys(_subset(image) for tree in trees.values() for image in tree.iter("image"))
    chosen = choose_splits(split, subsets, root)
    images = [image for path, tree in trees.items() for image in _images(path, tree, chosen, faults)]
    names = dict.fromkeys(name for tree in trees.values() for name in _labels(tree))
    used = {str(found.name) for image in images for found in image.objects}
    return RawDataset(tuple(names) or tuple(sorted(used)), images, faults)


def _parse(path: Path, root: Path, faults: list[Fault]) -> ElementTree.Element | None:
    try:
        return parse_xml(path)
    except PARSE_ERRORS as error:
        faults.append(Fault("unreadable_annotation", relative_name(path, root), f"{error}"))
        return None


def _labels(tree: ElementTree.Element) -> Iterator[str]:
    """The names in the file's own list of labels, without parts of a skeleton."""
    for label in tree.iterfind("meta//labels/label"):
        name = (label.findtext("name") or "").strip()
        if name and not (label.findtext("parent") or "").strip():
            yield name


def _subset(image: ElementTree.Element) -> str:
    return (image.get("subset") or UNSPLIT).strip()


def _images(
    path: Path, tree: ElementTree.Element, splits: list[str], faults: list[Fault]
) -> Iterator[RawImage]:
    elements = [image for image in tree.iter("image") if image.get("name") and _subset(image) in splits]
    base = path.parent
    parents = [base, base.parent] if base.name.lower() == "annotations" else [base]
    folders = [place for parent in parents for place in (subfolder(parent, "images"), parent) if place]
    inside = [inner for split in splits if split for place in folders if (inner := subfolder(place, split))]
    paths = bind([image.get("name") or "" for image in elements], [*folders, *inside])
    for element, file in zip(elements, paths, strict=True):
        where = f"{path.name} {element.get('name')}"
        yield RawImage(where, file, tuple(_objects(element, where, faults)), _size(element))


def _size(image: ElementTree.Element) -> tuple[int, int] | None:
    try:
        return int(float(image.get("width") or "")), int(float(image.get("height") or ""))
    except (ValueError, OverflowError):
        return None


def _objects(image: ElementTree.Element, where: str, faults: list[Fault]) -> Iterator[RawObject]:
    shapes = [shape for shape in image if shape.tag not in _TAGS]
    for number, shape in enumerate(shapes, start=1):
        name = (shape.get("label") or "").strip()
        try:
            box = _box(shape)
        except (ValueError, KeyError, IndexError) as error:
            box, why = None, f"{error}"
        else:
            why = "its label is missing"
        if box and name:
            yield RawObject(f"{where} object {number}", box, name)
        else:
            detail = f"<{shape.tag}> needs a label and numbers for its place: {why}"
            faults.append(Fault("unreadable_annotation", f"{where} object {number}", detail))


def _box(shape: ElementTree.Element) -> Box:
    """The bounding box of a shape. Raises ValueError, KeyError."""
    values = shape.attrib
    if shape.tag == "box":
        x1, y1, x2, y2 = (float(values[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        return _turned((x1, y1, x2, y2), float(values.get("rotation", 0)))
    if shape.tag == "ellipse":
        x, y, rx, ry = (float(values[key]) for key in ("cx", "cy", "rx", "ry"))
        return _turned((x - rx, y - ry, x + rx, y + ry), float(values.get("rotation", 0)))
    if shape.tag == "mask":
        left, top, width, height = (float(values[key]) for key in ("left", "top", "width", "height"))
        return left, top, left + width, top + height
    if shape.tag not in _OUTLINES or "points" not in values:
        raise ValueError("it is no box, outline, ellipse or mask")
    points = [tuple(map(float, point.split(","))) for point in values["points"].split(";") if point]
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return min(xs), min(ys), max(xs), max(ys)


def _turned(box: Box, degrees: float) -> Box:
    """The bounding box of a box that is turned around its centre."""
    x1, y1, x2, y2 = box
    if not degrees:
        return box
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    x, y, width, height = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    across, along = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return x - across, y - along, x + across, y + along
