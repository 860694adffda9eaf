"""Reader of the VGG Image Annotator (VIA): one JSON file, a project or an export, with regions of images."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.datasets.dataset import DatasetError
from models.datasets.faults import Fault
from models.datasets.layout.binding import bind
from models.datasets.paths import UNSPLIT, choose_splits, files_in, folders_in, relative_name, subfolder
from models.datasets.raw import Box, RawDataset, RawImage, RawObject
from models.datasets.readers.shapes import SHAPE_ERRORS

_IMAGES = "_via_img_metadata"
_MARKS = (b'"region_attributes"', b'"_via_img_metadata"')
_HEAD = 2**20  # bytes in which an export has its first region


def find_via(root: Path) -> dict[str, list[Path]]:
    """The JSON files of VIA by split: `root` itself, those in a folder, or in a folder per split."""
    if root.is_file():
        return {UNSPLIT: [root]} if root.suffix.lower() == ".json" and _is_via(root) else {}
    here = _files(root)
    if here:
        return {UNSPLIT: here}
    return {folder.name: files for folder in folders_in(root) if (files := _files(folder))}


def _files(folder: Path) -> list[Path]:
    return [path for path in files_in(folder, {".json"}) if _is_via(path)]


def _is_via(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return any(mark in head for mark in _MARKS)


def read_via(root: Path, split: str | None) -> RawDataset:
    """Read the images of a split, its classes in alphabetical order; raises DatasetError."""
    files = find_via(root)
    if not files:
        raise DatasetError(f"{root}: no JSON file of VIA; looked for one here, and in a folder a split")
    faults: list[Fault] = []
    chosen = [path for name in choose_splits(split, files, root) for path in files[name]]
    entries = {path: list(_entries(path, root, faults)) for path in chosen}
    attribute = _class_attribute(entry for found in entries.values() for entry in found)
    images = [image for path, found in entries.items() for image in _images(path, found, attribute, faults)]
    names = {str(found.name) for image in images for found in image.objects}
    return RawDataset(tuple(sorted(names)), images, faults)


def _entries(path: Path, root: Path, faults: list[Fault]) -> Iterator[dict[str, Any]]:
    """The images of a file; a file that cannot be read is a fault."""
    where = relative_name(path, root)
    try:
        document = json.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (OSError, ValueError, RecursionError) as error:
        faults.append(Fault("unreadable_annotation", where, f"not valid JSON: {error}"))
        return
    images = document.get(_IMAGES, document) if isinstance(document, dict) else {}
    for key, entry in images.items() if isinstance(images, dict) else ():
        match entry:
            case {"filename": str(name)} if name.strip() and "\0" not in name:
                yield entry
            case _:
                detail = "it needs a filename (a text) and regions"
                faults.append(Fault("unreadable_annotation", f"{where} {key}", detail))


def _regions(entry: dict[str, Any]) -> list[Any]:
    regions = entry.get("regions") or []
    return list(regions.values()) if isinstance(regions, dict) else list(regions)


def _class_attribute(entries: Iterator[dict[str, Any]]) -> str:
    """The attribute of regions that is set most often: the class."""
    counts: Counter[str] = Counter()
    for entry in entries:
        for region in _regions(entry):
            attributes = region.get("region_attributes") if isinstance(region, dict) else None
            if isinstance(attributes, dict):
                counts.update(key for key, value in attributes.items() if value)
    return counts.most_common(1)[0][0] if counts else ""


def _images(
    path: Path, entries: list[dict[str, Any]], attribute: str, faults: list[Fault]
) -> Iterator[RawImage]:
    apart = [found for name in ("images", "data") if (found := subfolder(path.parent, name))]
    paths = bind([entry["filename"] for entry in entries], [path.parent, *apart])
    for entry, file in zip(entries, paths, strict=True):
        where = f"{path.name} {entry['filename']}"
        yield RawImage(where, file, tuple(_objects(_regions(entry), attribute, where, faults)))


def _objects(regions: list[Any], attribute: str, where: str, faults: list[Fault]) -> Iterator[RawObject]:
    for number, region in enumerate(regions, start=1):
        place = f"{where} region {number}"
        try:
            box = region_box(region["shape_attributes"])
            name = class_of(region["region_attributes"], attribute)
        except SHAPE_ERRORS as error:
            detail = f"it needs a rect, polygon, circle or ellipse, and the attribute {attribute!r}: {error}"
            faults.append(Fault("unreadable_annotation", place, detail))
            continue
        yield RawObject(place, box, name)


def class_of(attributes: dict[str, Any], attribute: str) -> str:
    """The class of a region: the attribute's text, or the chosen option. Raises KeyError, ValueError."""
    value = attributes[attribute]
    if isinstance(value, dict):
        value = next((key for key, chosen in value.items() if chosen), "")
    name = str(value).strip()
    if not name:
        raise ValueError(f"{attribute} is empty")
    return name


def region_box(shape: dict[str, Any]) -> Box:
    """The bounding box of a shape. Raises one of SHAPE_ERRORS."""
    kind = shape["name"]
    if kind == "rect":
        x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
        return x, y, x + width, y + height
    if kind in ("polygon", "polyline"):
        xs = [float(value) for value in shape["all_points_x"]]
        ys = [float(value) for value in shape["all_points_y"]]
        return min(xs), min(ys), max(xs), max(ys)
    if kind in ("circle", "ellipse"):
        x, y = float(shape["cx"]), float(shape["cy"])
        across, along = (float(shape[key if key in shape else "r"]) for key in ("rx", "ry"))
        return x - across, y - along, x + across, y + along
    raise ValueError(f"a {kind} has no box")
