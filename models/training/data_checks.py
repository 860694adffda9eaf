"""What a run checks before its first step: that there is something to learn from and to validate on."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from models.datasets import AnnotatedImage, Dataset, Fault, FaultKind, require_objects
from models.evaluation.local import readers
from models.evaluation.predictions import map_files
from models.images.decoder import decode
from models.training.batches import LIMITS

SAMPLED = (
    500  # training images that are decoded before the first step; a run names the others as it meets them
)


def require_learnable(dataset: Dataset, root: Path, split: str | None, max_size: int) -> Dataset:
    """The training images without unusable ones; raises DatasetError if nothing can be learned from them.

    Those are damaged, or so narrow that a pixel or less is left of a side if the other has `max_size` px.
    """
    wide = _without_narrow(dataset, max_size)
    step = max(1, len(wide.images) // SAMPLED)
    kept = _without_damaged(wide, range(0, len(wide.images), step))
    require_objects(kept, root, split, "learn from")
    return kept


def require_measurable(dataset: Dataset, root: Path, split: str | None) -> Dataset:
    """The validation images without damaged ones; raises DatasetError if AP on them would be none."""
    kept = _without_damaged(dataset, range(len(dataset.images)))
    require_objects(kept, root, split, "validate on")
    return kept


def _without_damaged(dataset: Dataset, chosen: Sequence[int]) -> Dataset:
    """The data set without the chosen images that cannot be decoded; each is a fault of its report."""
    files = [dataset.images[index].path for index in chosen]
    reasons = map_files(_decode, files, readers())
    damaged = {index: reason for index, reason in zip(chosen, reasons, strict=True) if reason is not None}
    faults = [_fault("unreadable_image", dataset.images[index], reason) for index, reason in damaged.items()]
    return _without(dataset, damaged, faults)


def _without_narrow(dataset: Dataset, max_size: int) -> Dataset:
    narrow = {
        index: f"{image.width} x {image.height} px; at a long side of {max_size} px no more than 1 px is left"
        for index, image in enumerate(dataset.images)
        if min(image.width, image.height) * max_size <= max(image.width, image.height)
    }
    faults = [_fault("narrow_image", dataset.images[index], reason) for index, reason in narrow.items()]
    return _without(dataset, narrow, faults)


def _decode(file: Path) -> None:
    decode(file.read_bytes(), LIMITS)


def _without(dataset: Dataset, unusable: Collection[int], faults: Sequence[Fault]) -> Dataset:
    """The data set without these images; its report has their faults."""
    if not unusable:
        return dataset
    images = tuple(image for index, image in enumerate(dataset.images) if index not in unusable)
    counts = Counter(label for image in images for label in image.labels.tolist())
    report = replace(
        dataset.report,
        images=len(images),
        objects=counts.total(),
        empty_images=sum(len(image.labels) == 0 for image in images),
        ignored=sum(int(image.crowd.sum()) for image in images),
        per_class={name: counts[label] for label, name in enumerate(dataset.labels[1:], start=1)},
        faults=(*dataset.report.faults, *faults),
    )
    return replace(dataset, images=images, report=report)


def _fault(kind: FaultKind, image: AnnotatedImage, reason: str) -> Fault:
    lost = f" (with {len(image.labels)} objects)" if len(image.labels) else ""
    return Fault(kind, str(image.path), f"{reason}{lost}")
