"""Detection of a dataset's format by its files."""

from pathlib import Path
from typing import get_args

from models.datasets.coco import find_coco
from models.datasets.dataset import DatasetError, Format
from models.datasets.voc import find_voc
from models.datasets.yolo_layout import find_yolo

FORMATS: tuple[Format, ...] = get_args(Format)
_LOOKED_FOR = (
    "COCO (.json with images, annotations, categories in annotations/, here, or in a folder per split), "
    "Pascal VOC (.xml in Annotations/, beside the images, or in a folder per split), "
    "YOLO (data.yaml, images/ with labels/, or .txt beside the images)"
)


def detect_format(root: Path) -> Format:
    """The one format that the folder or file holds; raises DatasetError for none and for several."""
    finders = {"coco": find_coco, "voc": find_voc, "yolo": find_yolo}
    formats = [format for format in FORMATS if finders[format](root)]
    if len(formats) == 1:
        return formats[0]
    if formats:
        raise DatasetError(f"{root}: annotations in several formats ({', '.join(formats)}); name the format")
    what = "the folder is empty" if root.is_dir() and not any(root.iterdir()) else "no annotations found"
    raise DatasetError(f"{root}: {what}; looked for {_LOOKED_FOR}")
