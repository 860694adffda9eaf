"""Cleaning of raw annotations: unusable images and objects are dropped, counted and reported."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.datasets.checks.names import NO_CLASSES
from models.datasets.checks.placement import Placement, place
from models.datasets.dataset import AnnotatedImage
from models.datasets.faults import AnnotationReport, Fault
from models.datasets.image_size import ImageShape, Size, image_shape
from models.datasets.options import DEFAULTS, ReadOptions
from models.datasets.paths import is_file
from models.datasets.raw import Box, RawDataset, RawImage, RawObject
from models.images.decoder import ImageError

LARGEST = 1e12  # px; a coordinate beyond it is no number that an evaluation can use
TOLERANCE = 1.0  # px past the border, which rounding explains: cut without a report


def clean(
    raw: RawDataset, names: Sequence[str], options: ReadOptions = DEFAULTS
) -> tuple[tuple[AnnotatedImage, ...], AnnotationReport]:
    """Read the shape of each image and keep its usable objects; `names`: of the classes, from label 1.

    Raises DatasetError if the boxes of the whole can be understood in several ways.
    """
    faults = list(raw.faults)
    labels: dict[str, int] = {}
    for label, name in enumerate(names, start=1):
        labels.setdefault(name, label)
    seen: set[Path] = set()
    found = [(image, shape) for image in raw.images if (shape := _shape(image, seen, faults))]
    placement = place(found, raw.order, options)
    images: list[AnnotatedImage] = []
    for image, shape in found:
        _check_size(image, shape, placement, faults)
        images.append(_image(image, shape, labels, placement, faults))
    report = replace(_report(images, names, faults), notes=(*raw.notes, *placement.notes))
    return tuple(images), report


def _shape(raw: RawImage, seen: set[Path], faults: list[Fault]) -> ImageShape | None:
    """The shape of an image, or a fault and None if it is missing, unreadable or a duplicate."""
    lost = f" (with {len(raw.objects)} objects)" if raw.objects else ""
    if not is_file(raw.path):
        faults.append(Fault("missing_image", raw.where, f"{raw.path.name} is not there{lost}"))
        return None
    path = raw.path.resolve()
    if path in seen:
        faults.append(Fault("duplicate_image", raw.where, f"{raw.path.name} was listed before{lost}"))
        return None
    seen.add(path)
    try:
        return image_shape(raw.path)
    except (ImageError, OSError) as error:
        faults.append(Fault("unreadable_image", str(raw.path), f"{error}{lost}"))
        return None


def _check_size(raw: RawImage, shape: ImageShape, placement: Placement, faults: list[Fault]) -> None:
    """A fault if the annotation states another size, unless the boxes are read accordingly."""
    if raw.size in (None, shape.size) or (placement.stored and raw.size == shape.stored):
        return
    stated, actual = ("{} x {}".format(*size) for size in (raw.size or (0, 0), shape.size))
    turned = ""
    if raw.size == shape.stored:
        turned = f" after EXIF orientation {shape.orientation} is applied"
    elif raw.size == shape.size[::-1]:
        turned = ": width and height are exchanged"
    faults.append(Fault("size_mismatch", raw.where, f"says {stated}, the image has {actual}{turned}"))


def _image(
    raw: RawImage, shape: ImageShape, labels: dict[str, int], placement: Placement, faults: list[Fault]
) -> AnnotatedImage:
    """The usable objects of an image; of several with the same box and class the first is kept."""
    kept: dict[tuple[Box, int], RawObject] = {}
    placed = placement.boxes(raw, shape).tolist()
    for raw_object, corners in zip(raw.objects, placed, strict=True):
        label = _label(raw_object, labels, faults)
        box = _box(raw_object, corners, shape.size, faults) if label else None
        if not label or not box:
            continue
        if (box, label) in kept:
            faults.append(
                Fault("duplicate", raw_object.where, f"{raw_object.name} at {_format_box(box)} again")
            )
        else:
            kept[box, label] = raw_object
    objects = [_Object(box, label, found) for (box, label), found in kept.items()]
    return replace(
        _annotated(raw, shape, objects, placement), written=_written(raw, shape, labels, placement, objects)
    )


@dataclass(frozen=True)
class _Object:
    """An object with its box in pixels and its label."""

    box: Box
    label: int
    raw: RawObject


def _annotated(
    raw: RawImage, shape: ImageShape, objects: Sequence[_Object], placement: Placement
) -> AnnotatedImage:
    found = [each.raw for each in objects]
    return AnnotatedImage(
        raw.path,
        *shape.size,
        np.array([each.box for each in objects], np.float32).reshape(-1, 4),
        np.array([each.label for each in objects], np.int64),
        np.array([each.crowd for each in found], np.bool_),
        np.array([each.difficult for each in found], np.bool_),
        _areas(found, placement),
        raw.id,
        raw.counts_from_one,
    )


def _written(
    raw: RawImage,
    shape: ImageShape,
    labels: dict[str, int],
    placement: Placement,
    usable: Sequence[_Object],
) -> AnnotatedImage | None:
    """All objects of known classes whose boxes are numbers, not cut; None if these are the usable ones."""
    objects = [
        _Object((x1, y1, x2, y2), labels[found.name], found)
        for found, (x1, y1, x2, y2) in zip(raw.objects, placement.boxes(raw, shape).tolist(), strict=True)
        if isinstance(found.name, str)
        and found.name in labels
        and all(abs(side) < LARGEST for side in (x1, y1, x2, y2))
    ]
    every, used = (np.array([each.box for each in part], np.float32) for part in (objects, usable))
    return None if np.array_equal(every, used) else _annotated(raw, shape, objects, placement)


def _areas(objects: Sequence[RawObject], placement: Placement) -> npt.NDArray[np.float64]:
    """The areas as written, px²; NaN where they are not known, or are of boxes that were read otherwise."""
    known = placement.keeps_areas
    return np.array([one.area if known and one.area is not None else math.nan for one in objects], np.float64)


def _label(raw: RawObject, labels: dict[str, int], faults: list[Fault]) -> int | None:
    if isinstance(raw.name, str) and raw.name in labels:
        return labels[raw.name]
    if raw.name in NO_CLASSES:
        detail = f"{raw.name!r} marks background or an unused class; if it is one, --rename it"
    elif isinstance(raw.name, int):
        detail = f"class number {raw.name} has no name"
    else:
        detail = f"class {raw.name!r} is not one of {', '.join(labels)}"
    faults.append(Fault("unknown_class", raw.where, detail))
    return None


def _box(raw: RawObject, box: list[float], size: Size, faults: list[Fault]) -> Box | None:
    """The box cut to the image and rounded to float32; a fault and None if nothing remains."""
    sides = (*size, *size)
    x1, y1, x2, y2 = box
    if not all(math.isfinite(value) for value in box) or x2 <= x1 or y2 <= y1:
        faults.append(Fault("degenerate", raw.where, f"box {_format_box(raw.box)}"))
        return None
    inside = [float(np.float32(min(max(value, 0.0), side))) for value, side in zip(box, sides, strict=True)]
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        is_out = x2 <= 0 or y2 <= 0 or x1 >= size[0] or y1 >= size[1]
        detail = f"box {_format_box(raw.box)} in an image of {size[0]} x {size[1]}"
        faults.append(Fault("outside" if is_out else "degenerate", raw.where, detail))
        return None
    if max(-x1, -y1, x2 - size[0], y2 - size[1]) > TOLERANCE:
        detail = f"box {_format_box(raw.box)} in an image of {size[0]} x {size[1]}"
        faults.append(Fault("clipped", raw.where, detail))
    return inside[0], inside[1], inside[2], inside[3]


def _format_box(box: Sequence[float]) -> str:
    return " ".join(f"{value:.6g}" for value in box)


def _report(images: Sequence[AnnotatedImage], names: Sequence[str], faults: list[Fault]) -> AnnotationReport:
    counts: Counter[int] = Counter()
    for image in images:
        counts.update(image.labels.tolist())
    return AnnotationReport(
        images=len(images),
        objects=counts.total(),
        empty_images=sum(len(image.labels) == 0 for image in images),
        ignored=sum(int(image.crowd.sum()) for image in images),
        per_class={name: counts[label] for label, name in enumerate(names, start=1)},
        faults=tuple(faults),
    )
