"""Reader of COCO JSON: images, annotations and categories; boxes are x, y, width, height in pixels.

Labels follow the order of the category ids, which may have gaps. `iscrowd` objects count as crowd.
"""

import json
import mmap
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from models.datasets.dataset import BACKGROUND, DatasetError
from models.datasets.faults import Fault
from models.datasets.paths import (
    UNSPLIT,
    choose_splits,
    files_in,
    folders_in,
    is_file,
    relative_name,
    subfolder,
)
from models.datasets.raw import Box, RawDataset, RawImage, RawObject

MAX_AREA = 1e10  # px²; the largest that COCO's evaluation counts
_PREFIX = "instances_"
_PARTS = ("images", "annotations", "categories")
_IMAGE_FOLDERS = ("images", "data", "JPEGImages")


@dataclass(frozen=True)
class _File:
    """One JSON file: its split, its path, and the folder that reported paths are relative to."""

    split: str
    path: Path
    root: Path

    @property
    def name(self) -> str:
        return relative_name(self.path, self.root)


def find_coco(root: Path) -> dict[str, Path]:
    """The JSON files that may hold COCO annotations, by split: `root` itself, or those in a folder."""
    if root.is_file():
        return {_split_name(root): root} if root.suffix.lower() == ".json" else {}
    annotations = subfolder(root, "annotations")
    for folder in (*([annotations] if annotations else []), root):
        files = _candidates(folder)
        # captions_train.json and others of the same images may lie beside instances_train.json
        files = [path for path in files if path.stem.startswith(_PREFIX)] or files
        if files:
            names = [_split_name(path) for path in files]
            distinct = len(set(names)) == len(names)
            return dict(zip(names if distinct else [path.stem for path in files], files, strict=True))
    by_folder = [(folder.name, _candidates(folder)) for folder in folders_in(root)]
    return {name: files[0] for name, files in by_folder if len(files) == 1}


def _candidates(folder: Path) -> list[Path]:
    return [path for path in files_in(folder, {".json"}) if _mentions_images(path)]


def _split_name(path: Path) -> str:
    name = path.stem.removesuffix(".coco").removeprefix(_PREFIX).removeprefix("annotations_")
    name = name.removesuffix("_annotations")
    return UNSPLIT if name in ("annotations", "labels", "instances") else name


def _mentions_images(path: Path) -> bool:
    """Whether a file may hold annotations; it is not parsed, as it may be broken or very large."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(b'"images"') >= 0


def read_coco(root: Path, split: str | None) -> RawDataset:
    """Read the files of a split; raises DatasetError if none of them can be read."""
    files = find_coco(root)
    if not files:
        raise DatasetError(
            f"{root}: no COCO annotations; looked for a .json file with {', '.join(_PARTS)} here and in "
            "annotations/"
        )
    home = root.parent if root.is_file() else root
    chosen = [_File(name, files[name], home) for name in choose_splits(split, files, root)]
    faults: list[Fault] = []
    documents = [(file, document) for file in chosen if (document := _load(file, faults)) is not None]
    if not documents:
        raise DatasetError(
            f"{root}: no file could be read: {'; '.join(f.where + ' ' + f.detail for f in faults)}"
        )
    categories = _categories(documents, faults)
    images = [
        image for file, document in documents for image in _images(file, document, categories[file], faults)
    ]
    ids = {name: key for names in reversed(categories.values()) for key, name in reversed(names.items())}
    return RawDataset(_names(categories), images, faults, ids)


def _load(file: _File, faults: list[Fault]) -> dict[str, list[Any]] | None:
    """The three lists of a file, or None and a fault."""
    try:
        document = json.loads(file.path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        faults.append(Fault("unreadable_annotation", file.name, f"not valid JSON: {error}"))
        return None
    lists = document if isinstance(document, dict) else {}
    missing = [part for part in _PARTS if not isinstance(lists.get(part), list)]
    if missing:
        detail = f"no list of {' and of '.join(missing)}: not COCO's format"
        faults.append(Fault("unreadable_annotation", file.name, detail))
        return None
    return {part: lists[part] for part in _PARTS}


_Categories = dict[int, str]


def _categories(
    documents: list[tuple[_File, dict[str, list[Any]]]], faults: list[Fault]
) -> dict[_File, _Categories]:
    categories: dict[_File, _Categories] = {}
    for file, document in documents:
        categories[file] = {}
        for number, entry in enumerate(document["categories"], start=1):
            match entry:
                case {"id": int(key), "name": str(name)} if name.strip():
                    categories[file].setdefault(key, name.strip())
                case _:
                    detail = "it needs an id (a whole number) and a name (a text)"
                    faults.append(Fault("unreadable_annotation", f"{file.name} category {number}", detail))
    return categories


def _names(categories: dict[_File, _Categories]) -> tuple[str, ...]:
    """The class names of all files, in the order of their ids."""
    pairs = sorted(
        (pair for names in categories.values() for pair in names.items()), key=lambda pair: pair[0]
    )
    return tuple(dict.fromkeys(name for _, name in pairs if name != BACKGROUND))


def _images(
    file: _File, document: dict[str, list[Any]], categories: _Categories, faults: list[Fault]
) -> Iterator[RawImage]:
    objects = _objects(file, document["annotations"], categories, faults)
    folders = _image_folders(file)
    for number, entry in enumerate(document["images"], start=1):
        where = f"{file.name} image {number}"
        match entry:
            case {"id": int() | str() as key, "file_name": str(name)} if _is_file_name(name):
                found = objects.pop(key, [])
                yield RawImage(
                    f"{file.name} {name}", _locate(name, folders), tuple(found), _stated_size(entry), id=key
                )
            case _:
                detail = "it needs an id (a number or text) and a file_name (a text)"
                faults.append(Fault("unreadable_annotation", where, detail))
    for image_id, lost in objects.items():
        detail = f"no image has the id {image_id!r}, which {len(lost)} annotations name"
        faults.append(Fault("missing_image", file.name, detail))


def _is_file_name(name: str) -> bool:
    return bool(name.strip()) and "\0" not in name


def _stated_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    match entry:
        case {"width": int() | float() as width, "height": int() | float() as height}:
            return (int(width), int(height)) if width == width and abs(width) + abs(height) < 1e9 else None
    return None


def _objects(
    file: _File, entries: list[Any], categories: _Categories, faults: list[Fault]
) -> dict[Hashable, list[RawObject]]:
    """The objects of each image id; a malformed entry is a fault."""
    objects: dict[Hashable, list[RawObject]] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"{file.name} annotation {number}"
        match entry:
            case {"image_id": int() | str() as key, "category_id": int(category), "bbox": [_, _, _, _]}:
                box = _corners(entry["bbox"])
                if box is not None:
                    crowd = entry.get("iscrowd") in (1, True)
                    name = categories.get(category, category)
                    found = RawObject(where, box, name, crowd, area=_area(entry))
                    objects.setdefault(key, []).append(found)
                    continue
        detail = "it needs an image_id, a category_id (a whole number) and a bbox (x, y, width, height)"
        faults.append(Fault("unreadable_annotation", where, detail))
    return objects


def _area(entry: dict[str, Any]) -> float | None:
    match entry.get("area"):
        case (int() | float()) as area if not isinstance(area, bool) and 0 <= area <= MAX_AREA:
            return float(area)
    return None


def _corners(values: list[Any]) -> Box | None:
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return None
    try:
        x, y, width, height = (float(value) for value in values)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return x, y, x + width, y + height


def _image_folders(file: _File) -> list[Path]:
    """Folders of images: beside the file, images/, the split's folder, and the same one level up."""
    folders = []
    for base in (file.path.parent, file.path.parent.parent):
        inner = [base, *(found for name in _IMAGE_FOLDERS if (found := subfolder(base, name)))]
        folders += [place for folder in inner for place in (folder / file.split, folder)]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _locate(name: str, folders: list[Path]) -> Path:
    """The path of a file_name, which may come from another system; the expected path if there is no file."""
    portable = name.replace("\\", "/")
    spellings = (name, portable, PurePosixPath(portable).name)
    for spelled in dict.fromkeys((*spellings, *map(_with_other_suffix, spellings))):
        for folder in folders:
            if is_file(folder / spelled):
                return folder / spelled
    return folders[0] / portable


def _with_other_suffix(name: str) -> str:
    """The name with .JPG for .jpg and vice versa, which are the same on some systems."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}{dot}{suffix.swapcase()}"
