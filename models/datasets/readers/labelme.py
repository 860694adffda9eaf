"""Reader of LabelMe: a JSON file per image with its shapes; the bounding box of each is taken."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from models.datasets.dataset import DatasetError
from models.datasets.faults import Fault
from models.datasets.paths import (
    UNSPLIT,
    by_stem,
    choose_splits,
    files_in,
    folders_in,
    images_in,
    is_file,
    relative_name,
    subfolder,
)
from models.datasets.raw import Box, RawDataset, RawImage, RawObject
from models.datasets.readers.shapes import SHAPE_ERRORS, box_around, box_of_circle

_JSON = frozenset({".json"})
_NO_BOX = ("point", "points", "line", "linestrip")
_HEAD = 2**16  # bytes in which one of the keys is, unless the image itself comes first
_LOOKED_AT = 3  # files of a folder


def find_labelme(root: Path) -> dict[str, Path]:
    """The folders with LabelMe's JSON files by split: the root itself, or folders in it."""
    if not root.is_dir():
        return {}
    places = [root, *(found for name in ("annotations", "labels") if (found := subfolder(root, name)))]
    for folder in places:
        if _has_labelme(folder):
            return {UNSPLIT: folder}
    folders = [*folders_in(root), *(inner for place in places[1:] for inner in folders_in(place))]
    return {folder.name: folder for folder in folders if _has_labelme(folder)}


def _has_labelme(folder: Path) -> bool:
    return any(_is_labelme(path) for path in files_in(folder, _JSON)[:_LOOKED_AT])


def _is_labelme(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return b'"shapes"' in head and (b'"imagePath"' in head or b'"imageData"' in head)


def read_labelme(root: Path, split: str | None) -> RawDataset:
    """Read the images of a split, its classes in alphabetical order; raises DatasetError."""
    folders = find_labelme(root)
    if not folders:
        raise DatasetError(f"{root}: no JSON files of LabelMe; looked for them here, and in a folder a split")
    faults: list[Fault] = []
    images = [
        image
        for name in choose_splits(split, folders, root)
        for image in _read_folder(folders[name], root, faults)
    ]
    names = {str(found.name) for image in images for found in image.objects}
    return RawDataset(tuple(sorted(names)), images, faults)


def _read_folder(folder: Path, root: Path, faults: list[Fault]) -> Iterator[RawImage]:
    images = by_stem(images_in(folder))
    for path in files_in(folder, _JSON):
        where = relative_name(path, root)
        try:
            document = json.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        except (OSError, ValueError, RecursionError) as error:
            faults.append(Fault("unreadable_annotation", where, f"not valid JSON: {error}"))
            continue
        if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
            faults.append(Fault("unreadable_annotation", where, "no list of shapes: not LabelMe's format"))
            continue
        objects = tuple(_objects(document["shapes"], where, faults))
        yield RawImage(where, _image_path(document, path, root, images), objects, _size(document))
    annotated = {path.stem for path in files_in(folder, _JSON)}
    for stem in images.keys() - annotated:
        where = relative_name(images[stem][0], root)
        faults.append(Fault("missing_annotation", where, f"no {stem}.json for it"))


def _image_path(document: dict[str, Any], path: Path, root: Path, images: dict[str, list[Path]]) -> Path:
    """The image that the file names, relative to it, else the one with its own name."""
    named = document.get("imagePath")
    named = named.replace("\\", "/") if isinstance(named, str) and "\0" not in named else ""
    if named and is_file(path.parent / named):
        return path.parent / named
    if found := images.get(path.stem):
        return found[0]
    bare = PurePosixPath(named).name or f"{path.stem}.jpg"
    apart = subfolder(root, "images")
    return apart / bare if apart and is_file(apart / bare) else path.parent / bare


def _size(document: dict[str, Any]) -> tuple[int, int] | None:
    match document:
        case {"imageWidth": int(width), "imageHeight": int(height)}:
            return width, height
    return None


def _objects(shapes: list[Any], where: str, faults: list[Fault]) -> Iterator[RawObject]:
    for number, shape in enumerate(shapes, start=1):
        place = f"{where} shape {number}"
        try:
            name, box = str(shape["label"]).strip(), _box(shape)
        except SHAPE_ERRORS as error:
            detail = f"it needs a label and points of a rectangle, outline or circle: {error}"
            faults.append(Fault("unreadable_annotation", place, detail))
            continue
        yield RawObject(place, box, name)


def _box(shape: dict[str, Any]) -> Box:
    kind = shape.get("shape_type") or "polygon"
    if kind in _NO_BOX:
        raise ValueError(f"a {kind} has no box")
    return box_of_circle(shape["points"]) if kind == "circle" else box_around(shape["points"])
