"""The automatic split of a dataset that has none: the same for the same images, whatever the training's seed.

It is stratified: each class, the rarest first, has its share of images in both parts as far as that is
possible. Copies of one image that an export has augmented (Roboflow: name.rf.HASH.jpg) stay together.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.datasets.dataset import AnnotatedImage, Dataset, DatasetError
from models.datasets.faults import AnnotationReport
from models.datasets.paths import is_split_name

TRAIN_NAMES, VAL_NAMES = frozenset({"train", "training"}), frozenset({"val", "valid", "validation"})
SEED = 17  # not the training's: runs with other seeds are compared on the same images
EMPTY = 0  # stands for the class of images without objects
_OF_NO_PART = ("missing_image", "unreadable_image")  # the faults of images that are not divided
_COPY = ".rf."  # in the name of an augmented copy


def is_divisible(split: str, available: Collection[str]) -> bool:
    """Whether a missing split may be made: train where there are no usual splits, val where it is missing."""
    if split.lower() in TRAIN_NAMES:
        return not any(is_split_name(name) for name in available)
    return split.lower() in VAL_NAMES


def partition(dataset: Dataset, root: Path, fraction: float) -> tuple[Dataset, Dataset]:
    """Divide a dataset into images for training and for validation; raises DatasetError."""
    groups = _groups(dataset.images, root)
    target = max(1, round(fraction * len(dataset.images)))
    chosen = {index for group in _choose(groups, dataset.images, target) for index in group}
    parts = [
        [image for index, image in enumerate(dataset.images) if (index in chosen) == is_val]
        for is_val in (False, True)
    ]
    if not all(any((~image.crowd).any() for image in part) for part in parts):
        raise DatasetError(
            f"{root}: the dataset has no split, and too few images with objects to divide it; annotate more, "
            "or train on every image with --train-split none --val-split none"
        )
    note = (
        f"there is no split for validation: {len(parts[1])} of {len(dataset.images)} images are chosen for "
        "it, by class, the same each time (--val-fraction; --val-split none trains on all)"
    )
    counted = [fault for fault in dataset.report.faults if fault.kind not in _OF_NO_PART]
    rest = len(dataset.report.faults) - len(counted)
    which = (
        "1 image that is absent or cannot be read is"
        if rest == 1
        else f"{rest} images that are absent or cannot be read are"
    )
    missing = f"{which} in neither part" if rest else ""
    val = _part(dataset, parts[1], [note, *filter(None, [missing])])
    return _part(dataset, parts[0], [note]), replace(val, report=replace(val.report, faults=tuple(counted)))


def _groups(images: Sequence[AnnotatedImage], root: Path) -> list[list[int]]:
    """Indices of the images that must stay together, in an order that depends on their names alone."""
    found: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        relative = image.path.relative_to(root) if image.path.is_relative_to(root) else image.path
        found.setdefault(str(relative.parent / relative.name.split(_COPY)[0]), []).append(index)
    return [found[name] for name in sorted(found)]


def _choose(groups: list[list[int]], images: Sequence[AnnotatedImage], target: int) -> list[list[int]]:
    """Groups for validation: for each class, the rarest first, its share of those with the class."""
    order = [groups[k] for k in np.random.default_rng(SEED).permutation(len(groups)).tolist()]
    classes = [
        {int(label) for k in group for label in images[k].labels.tolist()} or {EMPTY} for group in order
    ]
    counts = Counter(label for found in classes for label in found)
    share = target / len(images)
    taken: set[int] = set()
    for label, count in sorted(counts.items(), key=lambda pair: (pair[1], pair[0])):
        having = [number for number, found in enumerate(classes) if label in found]
        missing = round(share * count) - sum(number in taken for number in having)
        taken.update([number for number in having if number not in taken][: max(0, missing)])
    rest = [number for number in range(len(order)) if number not in taken]
    rest.sort(key=lambda number: classes[number] == {EMPTY})  # at least one image must have objects
    chosen = sorted(taken)
    while rest and sum(len(order[number]) for number in chosen) < target:
        chosen.append(rest.pop(0))
    return [order[number] for number in chosen]


def _part(dataset: Dataset, images: list[AnnotatedImage], notes: list[str]) -> Dataset:
    counts: Counter[int] = Counter(label for image in images for label in image.labels.tolist())
    names = dataset.labels[1:]
    report: AnnotationReport = replace(
        dataset.report,
        images=len(images),
        objects=counts.total(),
        empty_images=sum(len(image.labels) == 0 for image in images),
        ignored=sum(int(image.crowd.sum()) for image in images),
        per_class={name: counts[label] for label, name in enumerate(names, start=1)},
        notes=(*dataset.report.notes, *notes),
    )
    return replace(dataset, images=tuple(images), report=report)


def shared_images(train: Dataset, val: Dataset) -> list[str]:
    """A note if images of the validation are trained on too."""
    known = {image.path.resolve() for image in train.images}
    shared = [image.path.name for image in val.images if image.path.resolve() in known]
    if not shared:
        return []
    return [
        f"{len(shared)} of {len(val.images)} images of the validation are trained on too, such as "
        f"{shared[0]}: its AP says nothing about other images"
    ]
