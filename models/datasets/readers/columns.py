"""The columns of annotations in CSV, by their names or, without a header, by their order (RetinaNet)."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_IMAGE = ("filename", "file_name", "imageid", "image_id", "image_path", "image", "img", "path", "file")
_CLASS = ("class", "labelname", "label_name", "label", "class_name", "classname", "category", "name")
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
_SIDES = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    ("left", "top", "width", "height"),
)
_RETINANET = 6  # columns: the image, four numbers, the class


@dataclass(frozen=True)
class Columns:
    """The numbers of the columns; sides: the box is x, y, width, height; size: of the image.

    group: marks a crowd (OpenImages); regions: VIA's two columns instead of a box and a class.
    """

    image: int
    box: tuple[int, ...] = ()
    name: int = -1
    sides: bool = False
    size: tuple[int, int] | None = None
    group: int | None = None
    regions: tuple[int, int] | None = None
    has_header: bool = True

    @property
    def is_open_images(self) -> bool:
        """Whether images are named by an id, and boxes are fractions."""
        return self.group is not None


def columns_of(path: Path) -> Columns | None:
    """The columns of a file; None if it is no table of boxes. Raises as rows_of."""
    first = next(rows_of(path), None)
    if first is None:
        return None
    names = [cell.strip().lower() for cell in first[1]]
    return _by_header(names) or (_RETINANET_COLUMNS if _is_retinanet(names) else None)


_RETINANET_COLUMNS = Columns(0, (1, 2, 3, 4), 5, has_header=False)


def _by_header(names: list[str]) -> Columns | None:
    image = next((names.index(name) for name in _IMAGE if name in names), None)
    if image is None:
        return None
    if {"region_shape_attributes", "region_attributes"} <= set(names):
        return Columns(
            image, regions=(names.index("region_shape_attributes"), names.index("region_attributes"))
        )
    label = next((names.index(name) for name in _CLASS if name in names), None)
    corners = next((keys for keys in _CORNERS if set(keys) <= set(names)), None)
    sides = next((keys for keys in _SIDES if set(keys) <= set(names)), None)
    keys = corners or sides
    if label is None or label == image or keys is None:
        return None
    size = (
        (names.index("width"), names.index("height"))
        if corners and {"width", "height"} <= set(names)
        else None
    )
    group = names.index("isgroupof") if "isgroupof" in names else None
    return Columns(image, tuple(names.index(key) for key in keys), label, corners is None, size, group)


def _is_retinanet(cells: list[str]) -> bool:
    if len(cells) != _RETINANET or not cells[0]:
        return False
    return not any(cells[1:]) or (all(map(_is_number, cells[1:5])) and bool(cells[5]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, numbered from 1. Raises OSError, UnicodeDecodeError, csv.Error."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, cells in enumerate(csv.reader(file), start=1):
            if any(cell.strip() for cell in cells):
                yield number, cells
