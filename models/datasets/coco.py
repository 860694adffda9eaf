"""Reader of COCO JSON: images, annotations and categories; boxes are x, y, width, height in pixels.

Labels follow the order of the category ids, which may have gaps. `iscrowd` objects count as crowd. LVIS is
read too: it has URLs of images where COCO has file names.
"""

import json
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from models.datasets.dataset import DatasetError
from models.datasets.faults import Fault
from models.datasets.layout.binding import bind
from models.datasets.layout.coco_files import USUAL, find_coco, image_folders
from models.datasets.paths import choose_splits, relative_name
from models.datasets.raw import Box, RawDataset, RawImage, RawObject

MAX_AREA = 1e15  # px²; a larger number is none
_PARTS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class _File:
    """One JSON file: its split, its path, and the folder that reported paths are relative to."""

    split: str
    path: Path
    root: Path

    @property
    def name(self) -> str:
        return relative_name(self.path, self.root)


Document = dict[str, list[Any]]
_Documents = list[tuple[_File, Document]]
_Categories = dict[int, str]


def read_coco(root: Path, split: str | None) -> RawDataset:
    """Read the files of a split; raises DatasetError if none of them can be read."""
    files = find_coco(root)
    if not files:
        raise DatasetError(
            f"{root}: no COCO annotations; looked for a .json file with {', '.join(_PARTS)} here and in "
            "annotations/"
        )
    home = root.parent if root.is_file() else root
    faults: list[Fault] = []
    notes: list[str] = []
    documents: _Documents = []
    for name in choose_splits(split, files, root):
        loaded = [(file, _load(file, faults)) for path in files[name] for file in (_File(name, path, home),)]
        usable = [(file, document) for file, document in loaded if document is not None]
        documents += _without_copies(usable, notes)
    if not documents:
        raise DatasetError(
            f"{root}: no file could be read: {'; '.join(f.where + ' ' + f.detail for f in faults)}"
        )
    categories = _categories(documents, faults)
    names = _names(documents, categories, notes)
    ids = {name: key for known in reversed(categories.values()) for key, name in reversed(known.items())}
    images = [
        image for file, document in documents for image in _images(file, document, categories[file], faults)
    ]
    return RawDataset(names, images, faults, ids, order="xywh", notes=notes)


def _load(file: _File, faults: list[Fault]) -> Document | None:
    """The three lists of a file, or None and a fault."""
    try:
        document = json.loads(file.path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
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


def _without_copies(documents: _Documents, notes: list[str]) -> _Documents:
    """The files of one split: all if each has images of its own, else the one with the usual name."""
    named: dict[str, _File] = {}
    for file, document in documents:
        for name in filter(None, dict.fromkeys(map(_file_name, document["images"]))):
            other = named.setdefault(name, file)
            if other is not file:
                return [_usual(documents, f"{other.name} and {file.name} both annotate {name}", notes)]
    return documents


def _usual(documents: _Documents, reason: str, notes: list[str]) -> tuple[_File, Document]:
    usual = [pair for pair in documents if pair[0].path.name == USUAL]
    if not usual:
        raise DatasetError(f"{reason}; delete one of them, move it elsewhere, or name the .json file to read")
    notes.append(f"{reason}: {usual[0][0].name} is read, which has the usual name")
    return usual[0]


def _categories(documents: _Documents, faults: list[Fault]) -> dict[_File, _Categories]:
    categories: dict[_File, _Categories] = {}
    for file, document in documents:
        categories[file] = {}
        for number, entry in enumerate(document["categories"], start=1):
            match entry:
                case {"id": int(key), "name": str(name)} if name.strip():
                    categories[file].setdefault(key, name.strip())
                case _:
                    detail = "it needs an id (a whole number) and a name (a text)" + _wrong(
                        entry, id=(int,), name=(str,)
                    )
                    faults.append(Fault("unreadable_annotation", f"{file.name} category {number}", detail))
    return categories


def _wrong(entry: object, **types: tuple[type, ...]) -> str:
    """What is wrong with the values of these keys, for the text of a fault."""
    if not isinstance(entry, dict):
        return f", and is {_short(entry)}"
    wrong = [
        f"its {key} is {_short(entry[key])}{_remedy(entry[key], allowed)}"
        if key in entry
        else f"it has no {key}"
        for key, allowed in types.items()
        if not isinstance(entry.get(key), allowed)
    ]
    return f"; {', '.join(wrong)}" if wrong else ""


def _remedy(value: object, allowed: tuple[type, ...]) -> str:
    if int in allowed and isinstance(value, str) and value.isdecimal():
        return f" (write {value} without quotes)"
    if isinstance(value, float) and value.is_integer():
        return f" (write {value:.0f})"
    return ""


def _short(value: object) -> str:
    kinds = {str: "the text ", float: "the decimal number ", type(None): "null"}
    text = repr(value) if value is not None else ""
    return kinds.get(type(value), "") + (text if len(text) <= 40 else f"{text[:40]}…")


def _names(documents: _Documents, categories: dict[_File, _Categories], notes: list[str]) -> tuple[str, ...]:
    """The class names of all files, in the order of their ids; not those that only group others."""
    pairs = sorted(
        (pair for names in categories.values() for pair in names.items()), key=lambda pair: pair[0]
    )
    groups = _groups(documents, categories)
    notes += [f"category {name!r} is only the supercategory of others: it is no class" for name in groups]
    return tuple(dict.fromkeys(name for _, name in pairs if name not in groups))


def _groups(documents: _Documents, categories: dict[_File, _Categories]) -> list[str]:
    """Names of categories without annotations that others name as their supercategory.

    Roboflow puts one before all others, with the id 0, whether they name it or not.
    """
    used: set[str] = set()
    above: set[str] = set()
    for file, document in documents:
        known = categories[file]
        for entry in document["annotations"]:
            if isinstance(entry, dict) and isinstance(key := entry.get("category_id"), int):
                used.add(known.get(key, ""))
        for entry in document["categories"]:
            if isinstance(entry, dict) and entry.get("supercategory") != entry.get("name"):
                above.add(str(entry.get("supercategory")).strip())
        if file.path.name == USUAL and len(known) > 1:
            above.add(known.get(0, ""))
    names = {name for known in categories.values() for name in known.values()}
    return sorted((above & names) - used) if used else []


def _file_name(entry: object) -> str:
    """The name of an image's file; "" if it has none."""
    match entry:
        case {"file_name": str(name)} if name.strip() and "\0" not in name:
            return name
        case {"coco_url": str(url)}:
            return "/".join(urlsplit(url).path.split("/")[-2:])
    return ""


def _images(
    file: _File, document: Document, categories: _Categories, faults: list[Fault]
) -> Iterator[RawImage]:
    objects = _objects(file, document["annotations"], categories, faults)
    entries = _usable_images(file, document["images"], faults)
    shared = _shared_ids(entries)
    paths = bind([_file_name(entry) for entry in entries], image_folders(file.path, file.split))
    for key, names in shared.items():
        count = len(objects.pop(key, []))
        detail = f"the id {key!r} is of {', '.join(names)}: its {count} annotations may be of any of them"
        faults += [Fault("duplicate_id", f"{file.name} {name}", detail) for name in names]
    for entry, path in zip(entries, paths, strict=True):
        if entry["id"] not in shared:
            found = tuple(objects.pop(entry["id"], []))
            where = f"{file.name} {_file_name(entry)}"
            yield RawImage(where, path, found, _stated_size(entry), id=entry["id"])
    known = {str(entry["id"]): entry["id"] for entry in entries}
    for image_id, lost in objects.items():
        detail = f"no image has the id {_short(image_id)}, which {len(lost)} annotations name"
        if str(image_id) in known and known[str(image_id)] != image_id:
            detail += f"; one has the id {_short(known[str(image_id)])}, of another type: use one type"
        faults.append(Fault("missing_image", file.name, detail))


def _usable_images(file: _File, entries: list[Any], faults: list[Fault]) -> list[dict[str, Any]]:
    usable = []
    for number, entry in enumerate(entries, start=1):
        match entry:
            case {"id": int() | str()} if _file_name(entry):
                usable.append(entry)
            case _:
                detail = "it needs an id (a number or text) and a file_name (a text)"
                detail += _wrong(entry, id=(int, str), file_name=(str,))
                faults.append(Fault("unreadable_annotation", f"{file.name} image {number}", detail))
    return usable


def _shared_ids(entries: Sequence[dict[str, Any]]) -> dict[Hashable, list[str]]:
    """The ids that images of different files have, with the names of these."""
    named: dict[Hashable, dict[str, None]] = {}
    for entry in entries:
        named.setdefault(entry["id"], {})[_file_name(entry)] = None
    return {key: list(names) for key, names in named.items() if len(names) > 1}


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
        detail += _wrong(entry, image_id=(int, str), category_id=(int,), bbox=(list,)) or (
            f"; its bbox is {_short(entry['bbox'])}"
        )
        faults.append(Fault("unreadable_annotation", where, detail))
    return objects


def _area(entry: dict[str, Any]) -> float | None:
    match entry.get("area"):
        case (int() | float()) as area if not isinstance(area, bool) and abs(area) <= MAX_AREA:
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
