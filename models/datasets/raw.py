"""Annotations as they are written, before cleaning: the output of each format's reader."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.datasets.faults import Fault
from models.datasets.options import BoxOrder

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class RawObject:
    """An object as written: where, for reports; box xyxy; class name, or a number that has no name."""

    where: str
    box: Box
    name: str | int
    crowd: bool = False
    difficult: bool = False  # of VOC; then `crowd` too
    area: float | None = None  # px², as written: COCO's is that of the outline


@dataclass(frozen=True)
class RawImage:
    """An image as written; size: (width, height) in the annotation; normalised: boxes are 0..1.

    id: COCO's. counts_from_one: VOC's own files count pixels from 1; 1 is subtracted from the box's start.
    """

    where: str
    path: Path
    objects: tuple[RawObject, ...]
    size: tuple[int, int] | None = None
    normalised: bool = False
    id: int | str | None = None
    counts_from_one: bool = False


@dataclass(frozen=True)
class RawDataset:
    """The output of a reader: class names in the order of their labels, images, and faults.

    order: of the four numbers of a box in the files; None where they are named, so that none can be taken for
    another. notes: what the reader chose to use, a sentence each.
    """

    names: tuple[str, ...]
    images: list[RawImage]
    faults: list[Fault] = field(default_factory=list)
    category_ids: Mapping[str, int] = field(default_factory=dict)  # of COCO, by class name
    order: BoxOrder | None = None
    notes: list[str] = field(default_factory=list)
