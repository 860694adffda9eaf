"""Whether there is anything to learn from, or to measure on."""

from pathlib import Path

from models.datasets.dataset import Dataset, DatasetError

_OTHERWISE = {
    "validate on": "name another split with --val-split, or --val-split none to validate on "
    "the training images",
    "measure on": "name another split or folder",
}


def require_objects(dataset: Dataset, root: Path, split: str | None, purpose: str) -> None:
    """Raise DatasetError, with the first reasons, if no object of the dataset can be used."""
    report = dataset.report
    if report.objects > report.ignored:
        return
    where = "the whole dataset" if split is None else f"split {split!r}"
    why, advice = _reason(dataset)
    otherwise = f"; or {_OTHERWISE[purpose]}" if purpose in _OTHERWISE else ""
    text = f"{root}: nothing to {purpose} in {where}: {why}; {advice}{otherwise}"
    raise DatasetError("\n".join(filter(None, [text, report.first_reasons()])))


def _reason(dataset: Dataset) -> tuple[str, str]:
    """Why no object can be used, and what to do."""
    report = dataset.report
    if report.objects:
        why = f"all {report.objects} objects are crowd or difficult, which do not count"
        return why, "set iscrowd (COCO) or difficult (VOC) to 0 for single objects"
    if not dataset.images:
        return "none of the images can be read", "replace the files named here"
    if report.faults:
        return "every object was skipped", "correct what is named here"
    return f"the {report.images} images have no annotated objects", "annotate some"
