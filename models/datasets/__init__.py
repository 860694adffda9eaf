"""Datasets for training and evaluation: COCO JSON, Pascal VOC and YOLO folders, as one type. Without torch.

Faults in annotations are counted, skipped or cut, and reported; none stops a training.
"""

from collections.abc import Sequence
from pathlib import Path

from models.datasets.clean import clean
from models.datasets.coco import read_coco
from models.datasets.dataset import BACKGROUND, AnnotatedImage, Dataset, DatasetError, Format
from models.datasets.faults import FAULT_KINDS, AnnotationReport, Fault, FaultKind
from models.datasets.formats import FORMATS, detect_format
from models.datasets.raw import RawDataset
from models.datasets.voc import read_voc
from models.datasets.yolo import read_yolo

__all__ = [
    "read_dataset",
    "Dataset",
    "AnnotatedImage",
    "AnnotationReport",
    "Fault",
    "FaultKind",
    "FAULT_KINDS",
    "FORMATS",
    "Format",
    "DatasetError",
]


def read_dataset(
    root: Path,
    split: str | None = None,
    format: Format | None = None,
    labels: Sequence[str] | None = None,
) -> Dataset:
    """Read a folder (or a COCO .json, a YOLO .yaml); raises DatasetError.

    split: None reads everything. format: None detects it. labels: class names in order, with or without
    "background" in front; objects of other classes are reported and skipped. Without it the names of the
    dataset are used: COCO's categories by id, VOC's names in this split by alphabet, YOLO's names by number.
    """
    root = Path(root)
    if not root.exists():
        raise DatasetError(f"{root}: no such folder or file; name the folder of a dataset")
    if format is not None and format not in FORMATS:
        raise DatasetError(f"{format!r} is not a dataset format; allowed are {', '.join(FORMATS)}")
    format = format or detect_format(root)
    given = None if labels is None else _without_background(labels)
    raw = _read(root, split, format, given)
    names = raw.names if given is None else given
    if not names:
        raise DatasetError(
            f"{root}: no object of any class in {_describe(split)}; annotate objects, or give labels"
        )
    images, report = clean(raw, names)
    if not images:
        raise DatasetError(f"{root}: no usable image in {_describe(split)} ({format})\n{report.summary()}")
    return Dataset((BACKGROUND, *names), images, report, format, raw.category_ids)


def _read(root: Path, split: str | None, format: Format, labels: tuple[str, ...] | None) -> RawDataset:
    if format == "coco":
        return read_coco(root, split)
    if format == "voc":
        return read_voc(root, split)
    return read_yolo(root, split, labels)


def _without_background(labels: Sequence[str]) -> tuple[str, ...]:
    names = tuple(labels[1:] if labels[:1] and labels[0] == BACKGROUND else labels)
    if not names or BACKGROUND in names:
        raise DatasetError(f'labels are {list(labels)}; give class names, "{BACKGROUND}" only as the first')
    return names


def _describe(split: str | None) -> str:
    return "the whole dataset" if split is None else f"split {split!r}"
