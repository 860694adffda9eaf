"""Reading of a dataset in any format, and of its splits for a training."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from models.datasets.archive import unpacked
from models.datasets.checks.ground import require_objects
from models.datasets.checks.names import apply_names, check_names
from models.datasets.clean import clean
from models.datasets.coco import read_coco
from models.datasets.dataset import BACKGROUND, Dataset, DatasetError, Format, NoSplitError
from models.datasets.formats import FORMATS, find_dataset
from models.datasets.options import DEFAULTS, ReadOptions
from models.datasets.partition import VAL_NAMES, is_divisible, partition, shared_images
from models.datasets.raw import RawDataset
from models.datasets.readers.cvat import read_cvat
from models.datasets.readers.labelme import read_labelme
from models.datasets.readers.table import read_table
from models.datasets.readers.via import read_via
from models.datasets.voc import read_voc
from models.datasets.yolo import read_yolo

_READERS: dict[Format, Callable[[Path, str | None], RawDataset]] = {
    "coco": read_coco,
    "voc": read_voc,
    "cvat": read_cvat,
    "labelme": read_labelme,
    "via": read_via,
    "csv": read_table,
}


def read_dataset(
    root: Path,
    split: str | None = None,
    format: Format | None = None,
    labels: Sequence[str] | None = None,
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Read a folder (or a COCO .json, a YOLO .yaml, a .csv, a .zip of any); raises DatasetError.

    split: None reads everything. format: None detects it. labels: class names in order, with or without
    "background" in front; objects of other classes are reported and skipped. Without it the names of the
    dataset are used: COCO's categories by id, YOLO's names by number, in other formats by alphabet.
    """
    root = Path(root)
    if not root.exists():
        raise DatasetError(f"{root}: no such folder or file; name the folder of a dataset")
    if format is not None and format not in FORMATS:
        raise DatasetError(f"{format!r} is not a dataset format; allowed are {', '.join(FORMATS)}")
    given = None if labels is None else _without_background(labels)
    place, format = find_dataset(unpacked(root, options.cache_dir), format)
    raw = _READERS[format](place, split) if format != "yolo" else read_yolo(place, split, given)
    if not options.rename and not options.classes and not raw.names and given is None:
        raise DatasetError(_no_class(raw, root, split))
    raw = apply_names(raw, options)
    names = raw.names if given is None else given
    check_names(names, root)
    images, report = clean(raw, names, options)
    if not names:
        raise DatasetError(_no_class(raw, root, split))
    if not images:
        raise DatasetError(f"{root}: no usable image in {_describe(split)} ({format})\n{report.summary()}")
    return Dataset((BACKGROUND, *names), images, report, format, raw.category_ids)


def read_part(
    root: Path,
    split: str | None,
    format: Format | None = None,
    options: ReadOptions = DEFAULTS,
    labels: Sequence[str] | None = None,
) -> Dataset:
    """As read_dataset; train and val of a dataset that has neither are those of the automatic split."""
    try:
        return read_dataset(root, split, format, labels, options)
    except NoSplitError as error:
        if split is None or not is_divisible(split, error.available):
            raise
        divided = "train" if _has_train(error.available) else None
    whole = read_dataset(root, divided, format, labels, options)
    train, val = _divide(whole, root, divided, options)
    return val if split.lower() in VAL_NAMES else train


def read_training_data(
    root: Path,
    splits: tuple[str | None, str | None] = ("train", "val"),
    format: Format | None = None,
    options: ReadOptions = DEFAULTS,
) -> tuple[Dataset, Dataset | None]:
    """The images to train on and those to validate on (None if no split is named for them).

    A dataset without these splits is divided, the same way each time. Raises DatasetError, also if there is
    nothing to learn or to measure.
    """
    train_split, val_split = splits
    if val_split is None:
        train, val = _read_whole(root, train_split, format, options), None
    else:
        train, val = _read_both(root, (train_split, val_split), format, options)
    require_objects(train, root, train_split, "learn from")
    if val is not None:
        require_objects(val, root, val_split, "validate on")
    return train, val


def _read_whole(root: Path, split: str | None, format: Format | None, options: ReadOptions) -> Dataset:
    """The split; without it, where the dataset has no splits, every image."""
    try:
        return read_dataset(root, split, format, None, options)
    except NoSplitError as error:
        if split is None or not is_divisible(split, error.available):
            raise
    whole = read_dataset(root, None, format, None, options)
    return _with_notes(whole, ["there is no split for training: every image is trained on"])


def _read_both(
    root: Path, splits: tuple[str | None, str], format: Format | None, options: ReadOptions
) -> tuple[Dataset, Dataset]:
    train_split, val_split = splits
    try:
        train = read_dataset(root, train_split, format, None, options)
    except NoSplitError as error:
        if train_split is None or not is_divisible(train_split, error.available):
            raise
        return _divide(read_dataset(root, None, format, None, options), root, None, options)
    try:
        val = read_dataset(root, val_split, format, train.labels, options)
    except NoSplitError as error:
        if not is_divisible(val_split, error.available):
            raise
        parts = _divide(train, root, train_split, options)
        notes = [error.reason] if error.reason else []
        return _with_notes(parts[0], notes), _with_notes(parts[1], notes)
    return train, _with_notes(val, shared_images(train, val))


def _divide(whole: Dataset, root: Path, split: str | None, options: ReadOptions) -> tuple[Dataset, Dataset]:
    """The automatic split of what was read; raises DatasetError if that is impossible."""
    require_objects(whole, root, split, "learn from")
    return partition(whole, root, options.val_fraction)


def _has_train(available: Sequence[str]) -> bool:
    return is_divisible("val", available) and not is_divisible("train", available)


def _with_notes(dataset: Dataset, notes: list[str]) -> Dataset:
    report = replace(dataset.report, notes=(*dataset.report.notes, *notes))
    return replace(dataset, report=report)


def _no_class(raw: RawDataset, root: Path, split: str | None) -> str:
    reasons = [f"  {fault.where}: {fault.detail}" for fault in raw.faults[:5]]
    more = f"\n  … and {len(raw.faults) - 5} more" if len(raw.faults) > 5 else ""
    text = f"{root}: no object of any class in {_describe(split)}; annotate objects, or give labels"
    return "\n".join([text, *reasons]) + more


def _without_background(labels: Sequence[str]) -> tuple[str, ...]:
    names = tuple(labels[1:] if labels[:1] and labels[0] == BACKGROUND else labels)
    if not names or BACKGROUND in names:
        raise DatasetError(f'labels are {list(labels)}; give class names, "{BACKGROUND}" only as the first')
    return names


def _describe(split: str | None) -> str:
    return "the whole dataset" if split is None else f"split {split!r}"
