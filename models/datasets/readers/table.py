"""Reader of annotations in CSV, a box a row: TensorFlow's and RetinaNet's, OpenImages, VIA's export."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.datasets.dataset import DatasetError
from models.datasets.faults import Fault
from models.datasets.layout.binding import bind
from models.datasets.layout.coco_files import image_folders
from models.datasets.options import BoxOrder
from models.datasets.paths import (
    UNSPLIT,
    by_stem,
    choose_splits,
    files_in,
    folders_in,
    images_in,
    is_split_name,
    relative_name,
    subfolder,
)
from models.datasets.raw import Box, RawDataset, RawImage, RawObject
from models.datasets.readers.columns import Columns, columns_of, rows_of
from models.datasets.readers.shapes import SHAPE_ERRORS
from models.datasets.readers.via import class_of, region_box

_FOLDERS = ("annotations", "labels", "csv", "boxes")
_DESCRIPTIONS = ("class-descriptions", "class_descriptions")  # OpenImages: an id and a name in each row
_READ_ERRORS = (OSError, UnicodeDecodeError, csv.Error)


@dataclass(frozen=True)
class _Table:
    """A CSV file, its columns, its split, the names of class ids, and where reported paths begin."""

    path: Path
    columns: Columns
    split: str
    names: dict[str, str]
    where: str


def find_tables(root: Path) -> dict[str, list[Path]]:
    """The CSV files with boxes by split: `root` itself, those in a folder, or in a folder per split."""
    if root.is_file():
        return {UNSPLIT: [root]} if root.suffix.lower() == ".csv" and _has_boxes(root) else {}
    splits: dict[str, list[Path]] = {}
    apart = [found for name in _FOLDERS if (found := subfolder(root, name))]
    for folder in (root, *apart):
        for path in files_in(folder, {".csv"}):
            if _has_boxes(path):
                splits.setdefault(_split_of(path), []).append(path)
        if splits:
            return splits
    inner = {
        folder.name: [path for path in files_in(folder, {".csv"}) if _has_boxes(path)]
        for folder in folders_in(root)
    }
    return {name: files for name, files in inner.items() if files}


def _has_boxes(path: Path) -> bool:
    try:
        return columns_of(path) is not None
    except _READ_ERRORS:
        return False


def _split_of(path: Path) -> str:
    """The part of a name that is a split's: train of train_labels.csv."""
    return next((word for word in re.split(r"[-_. ]", path.stem) if is_split_name(word)), UNSPLIT)


def read_table(root: Path, split: str | None) -> RawDataset:
    """Read the images of a split, its classes in alphabetical order; raises DatasetError."""
    files = find_tables(root)
    if not files:
        raise DatasetError(
            f"{root}: no CSV of boxes; looked for columns such as filename, class, xmin, ymin, xmax, ymax, "
            "or rows such as image.jpg,x1,y1,x2,y2,class"
        )
    home = root.parent if root.is_file() else root
    descriptions = _descriptions(home)
    faults: list[Fault] = []
    images: list[RawImage] = []
    tables = []
    for name in choose_splits(split, files, root):
        for path in files[name]:
            columns = columns_of(path) or Columns(0)
            table = _Table(path, columns, name, descriptions, relative_name(path, home))
            images += _read(table, faults)
            tables.append(columns)
    names = {str(found.name) for image in images for found in image.objects}
    same_order = len({columns.sides for columns in tables}) == 1 and not any(t.regions for t in tables)
    order: BoxOrder | None = ("xywh" if tables[0].sides else "xyxy") if same_order else None
    return RawDataset(tuple(sorted(names)), images, faults, order=order)


def _descriptions(root: Path) -> dict[str, str]:
    """The names of OpenImages' class ids."""
    for folder in (root, *folders_in(root)):
        for path in files_in(folder, {".csv"}):
            if path.stem.lower().startswith(_DESCRIPTIONS):
                return {cells[0].strip(): cells[1].strip() for _, cells in rows_of(path) if len(cells) > 1}
    return {}


def _read(table: _Table, faults: list[Fault]) -> Iterator[RawImage]:
    """The images of a table, each with its rows; raises DatasetError if it is not text."""
    objects: dict[str, list[RawObject]] = {}
    sizes: dict[str, tuple[int, int] | None] = {}
    try:
        for number, cells in rows_of(table.path):
            if number > 1 or not table.columns.has_header:
                _read_row(table, cells, f"{table.where} row {number}", (objects, sizes, faults))
    except _READ_ERRORS as error:
        raise DatasetError(f"{table.path}: the table cannot be read: {error}") from error
    for (name, found), path in zip(objects.items(), _paths(list(objects), table), strict=True):
        normalised = table.columns.is_open_images
        yield RawImage(f"{table.where} {name}", path, tuple(found), sizes.get(name), normalised)


_Rows = tuple[dict[str, list[RawObject]], dict[str, tuple[int, int] | None], list[Fault]]


def _read_row(table: _Table, cells: list[str], where: str, rows: _Rows) -> None:
    """Add the object of a row; a row with an image alone says that it has none."""
    objects, sizes, faults = rows
    columns = table.columns
    name = cells[columns.image].strip() if len(cells) > columns.image else ""
    if not name or "\0" in name:
        faults.append(Fault("unreadable_annotation", where, "it names no image"))
        return
    found = objects.setdefault(name, [])
    if columns.regions:
        if (one := _region(cells, columns.regions, where, faults)) is not None:
            found.append(one)
        return
    values = [cells[index].strip() if index < len(cells) else "" for index in (*columns.box, columns.name)]
    if not any(values[:4]):
        return
    try:
        box, label = _box(values[:4], columns.sides), values[4]
    except ValueError as error:
        faults.append(Fault("unreadable_annotation", where, f"it needs four numbers for the box: {error}"))
        return
    if not label:
        faults.append(Fault("unreadable_annotation", where, "it needs the name of a class"))
        return
    crowd = columns.group is not None and cells[columns.group].strip() == "1"
    found.append(RawObject(where, box, table.names.get(label, label), crowd))
    sizes[name] = _size(cells, columns)


def _box(values: list[str], sides: bool) -> Box:
    x1, y1, x2, y2 = map(float, values)
    return (x1, y1, x1 + x2, y1 + y2) if sides else (x1, y1, x2, y2)


def _size(cells: list[str], columns: Columns) -> tuple[int, int] | None:
    try:
        return (int(cells[columns.size[0]]), int(cells[columns.size[1]])) if columns.size else None
    except (ValueError, IndexError):
        return None


def _region(cells: list[str], regions: tuple[int, int], where: str, faults: list[Fault]) -> RawObject | None:
    """The object of a row of VIA's table; None for an image without regions."""
    try:
        shape, attributes = (json.loads(cells[index]) for index in regions)
        if not shape:
            return None
        attribute = next(iter(attributes))
        return RawObject(where, region_box(shape), class_of(attributes, attribute))
    except (*SHAPE_ERRORS, StopIteration) as error:
        faults.append(Fault("unreadable_annotation", where, f"it needs a region with a class: {error}"))
        return None


def _paths(names: list[str], table: _Table) -> list[Path]:
    """The images of a table; OpenImages' are named without their suffix."""
    folders = image_folders(table.path, table.split)
    if not table.columns.is_open_images:
        return bind(names, folders)
    stems = [by_stem(images_in(folder)) for folder in folders]
    found = (next((stem[name][0] for stem in stems if name in stem), None) for name in names)
    return [path or folders[0] / f"{name}.jpg" for path, name in zip(found, names, strict=True)]
