"""From annotations as written to boxes that can be used: what is dropped is counted and reported."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.datasets.dataset import BACKGROUND, AnnotatedImage
from models.datasets.faults import AnnotationReport, Fault
from models.datasets.image_size import Size, displayed_size
from models.datasets.paths import is_file
from models.datasets.raw import Box, RawImage, RawObject, Source
from models.images.decoder import ImageError

TOLERANCE = 1.0  # px past the border that rounding explains: cut without a word


def clean(source: Source, names: Sequence[str]) -> tuple[tuple[AnnotatedImage, ...], AnnotationReport]:
    """Measure the images and keep what can be used of their objects; names: of the classes, from label 1."""
    faults = list(source.faults)
    labels: dict[str, int] = {}
    for label, name in enumerate(names, start=1):
        labels.setdefault(name, label)
    images: list[AnnotatedImage] = []
    seen: set[Path] = set()
    for raw in source.images:
        size = _size(raw, seen, faults)
        if size:
            images.append(_image(raw, size, labels, faults))
    return tuple(images), _report(images, names, faults)


def _size(raw: RawImage, seen: set[Path], faults: list[Fault]) -> Size | None:
    """The displayed size of an image that is there, whole and new; otherwise a fault and None."""
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
        size = displayed_size(raw.path)
    except (ImageError, OSError) as error:
        faults.append(Fault("unreadable_image", raw.where, f"{raw.path.name}: {error}{lost}"))
        return None
    if raw.size not in (None, size):
        claimed = "{} x {}".format(*raw.size) if raw.size else ""
        faults.append(
            Fault("size_mismatch", raw.where, f"says {claimed}, the image has {size[0]} x {size[1]}")
        )
    return size


def _image(raw: RawImage, size: Size, labels: dict[str, int], faults: list[Fault]) -> AnnotatedImage:
    """Judge the objects of an image; of two with the same box and class the first counts."""
    kept: dict[tuple[Box, int], bool] = {}
    for found in raw.objects:
        label = _label(found, labels, faults)
        box = _box(found, raw.normalised, size, faults) if label else None
        if not label or not box:
            continue
        if (box, label) in kept:
            faults.append(Fault("duplicate", found.where, f"{found.name} at {_written(box)} once more"))
        else:
            kept[box, label] = found.crowd
    return AnnotatedImage(
        raw.path,
        *size,
        np.array([box for box, _ in kept], np.float32).reshape(-1, 4),
        np.array([label for _, label in kept], np.int64),
        np.array(list(kept.values()), np.bool_),
    )


def _label(found: RawObject, labels: dict[str, int], faults: list[Fault]) -> int | None:
    if isinstance(found.name, str) and found.name in labels:
        return labels[found.name]
    if found.name == BACKGROUND:
        detail = f"{BACKGROUND!r} is what is left where no object is; it cannot be a class"
    elif isinstance(found.name, int):
        detail = f"class number {found.name} has no name"
    else:
        detail = f"class {found.name!r} is none of {', '.join(labels)}"
    faults.append(Fault("unknown_class", found.where, detail))
    return None


def _box(found: RawObject, normalised: bool, size: Size, faults: list[Fault]) -> Box | None:
    """The box in pixels, cut to the image and rounded to float32; None and a fault if nothing is left."""
    sides = (*size, *size)
    box = [value * side for value, side in zip(found.box, sides, strict=True)] if normalised else found.box
    x1, y1, x2, y2 = box
    if not all(math.isfinite(value) for value in box) or x2 <= x1 or y2 <= y1:
        faults.append(Fault("degenerate", found.where, f"box {_written(found.box)}"))
        return None
    inside = [float(np.float32(min(max(value, 0.0), side))) for value, side in zip(box, sides, strict=True)]
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        is_out = x2 <= 0 or y2 <= 0 or x1 >= size[0] or y1 >= size[1]
        detail = f"box {_written(found.box)} in an image of {size[0]} x {size[1]}"
        faults.append(Fault("outside" if is_out else "degenerate", found.where, detail))
        return None
    if max(-x1, -y1, x2 - size[0], y2 - size[1]) > TOLERANCE:
        detail = f"box {_written(found.box)} in an image of {size[0]} x {size[1]}"
        faults.append(Fault("clipped", found.where, detail))
    return inside[0], inside[1], inside[2], inside[3]


def _written(box: Sequence[float]) -> str:
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
