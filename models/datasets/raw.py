"""Annotations as they are written, before anything is believed: what each format's reader hands over."""

from dataclasses import dataclass, field
from pathlib import Path

from models.datasets.faults import Fault

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class RawObject:
    """An object as written: where, for reports; box xyxy; class name, or a number that has no name."""

    where: str
    box: Box
    name: str | int
    crowd: bool = False


@dataclass(frozen=True)
class RawImage:
    """An image as written; size: (width, height) that the annotation claims; normalised: boxes are 0..1."""

    where: str
    path: Path
    objects: tuple[RawObject, ...]
    size: tuple[int, int] | None = None
    normalised: bool = False


@dataclass(frozen=True)
class Source:
    """What a reader found: class names in the order of their labels, images, and faults on the way."""

    names: tuple[str, ...]
    images: list[RawImage]
    faults: list[Fault] = field(default_factory=list)
