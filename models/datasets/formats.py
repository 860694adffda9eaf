"""Detection of a dataset's format by its files."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from models.datasets.dataset import DatasetError, Format
from models.datasets.layout.coco_files import find_coco
from models.datasets.layout.voc_files import find_voc
from models.datasets.paths import folders_in
from models.datasets.readers.cvat import find_cvat
from models.datasets.readers.labelme import find_labelme
from models.datasets.readers.table import find_tables
from models.datasets.readers.via import find_via
from models.datasets.yolo_layout import find_yolo

FORMATS: tuple[Format, ...] = get_args(Format)
_LOOKED_FOR = (
    "COCO (.json with images, annotations, categories in annotations/, here, or in a folder per split), "
    "Pascal VOC (.xml in Annotations/, beside the images, or in a folder per split), "
    "YOLO (data.yaml, obj.data, images/ with labels/, or .txt beside the images), "
    "CVAT for images (annotations.xml), LabelMe and VIA (.json), CSV (a box a row)"
)
_FINDERS: dict[Format, Callable[[Path], object]] = {
    "coco": find_coco,
    "voc": find_voc,
    "yolo": find_yolo,
    "cvat": find_cvat,
    "labelme": find_labelme,
    "via": find_via,
}
_NESTED = 3  # folders that may hold nothing but the next, as archives often do


def find_dataset(root: Path, format: Format | None) -> tuple[Path, Format]:
    """The folder or file of the dataset, and its format; raises DatasetError for none and for several.

    The dataset may lie in the only folder of `root`.
    """
    place = root
    for _ in range(_NESTED):
        found = [format] if format and _finds(format, place) else _formats(place) if not format else []
        if found:
            break
        inner = folders_in(place) if place.is_dir() else []
        if len(inner) != 1:
            break
        place = inner[0]
    if not found and format:
        return root, format  # its reader says what it looked for
    if len(found) == 1:
        return place, found[0]
    if found:
        names = ", ".join(found)
        raise DatasetError(f"{root}: annotations in several formats ({names}); name the format (--format)")
    what = "the folder is empty" if root.is_dir() and not any(root.iterdir()) else "no annotations found"
    raise DatasetError(f"{root}: {what}; looked for {_LOOKED_FOR}")


def _formats(root: Path) -> list[Format]:
    found = [format for format, finder in _FINDERS.items() if finder(root)]
    # a CSV often lies beside annotations of another format, and says the same
    return found or (["csv"] if find_tables(root) else [])


def _finds(format: Format, place: Path) -> bool:
    return bool(find_tables(place) if format == "csv" else _FINDERS[format](place))
