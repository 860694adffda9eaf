"""Whether there is anything to learn from, or to measure on."""

from pathlib import Path

from models.datasets.dataset import Dataset, DatasetError


def require_objects(dataset: Dataset, root: Path, split: str | None, purpose: str) -> None:
    """Raise DatasetError, with the first reasons, if no object of the dataset can be used."""
    report = dataset.report
    if report.objects > report.ignored:
        return
    where = "the whole dataset" if split is None else f"split {split!r}"
    if report.objects:
        why = f"all {report.objects} objects are marked as crowd or difficult, which are not learned"
        advice = "set iscrowd (COCO) or difficult (VOC) to 0 for single objects"
    elif report.faults:
        why, advice = "every object was skipped", "correct what is named here"
    else:
        why, advice = f"the {report.images} images have no annotated objects", "annotate some"
    reasons = report.first_reasons()
    lines = [f"{root}: nothing to {purpose} in {where}: {why}; {advice}", *([reasons] if reasons else [])]
    raise DatasetError("\n".join(lines))
