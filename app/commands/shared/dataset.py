"""The annotated images that a model is measured on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

from app.commands import USAGE, CommandFailed
from app.commands.shared.console import print_warnings, read_settings
from models.datasets import (
    DataOptionError,
    Dataset,
    DatasetError,
    Format,
    ReadOptions,
    read_part,
    require_objects,
)
from models.evaluation.labels import LabelMatch, match_labels

SCORED_AS_WRITTEN = ("coco", "voc")  # formats with an evaluation program of their own


class DataArguments(Protocol):
    """The options about data that the commands share."""

    @property
    def boxes(self) -> Literal["xywh", "xyxy", "normalized"] | None:
        """How the numbers of a box are meant."""

    @property
    def exif(self) -> Literal["apply", "ignore"] | None:
        """Of which pixels the boxes of rotated images are."""

    @property
    def classes(self) -> str | None:
        """The only classes to use, separated by commas."""

    @property
    def rename(self) -> list[str] | None:
        """Pairs of an old and a new name."""


def data_options(arguments: DataArguments) -> ReadOptions:
    """The options of reading that were given; raises CommandFailed."""
    classes = tuple(name.strip() for name in (arguments.classes or "").split(",") if name.strip())
    try:
        return ReadOptions(
            boxes=arguments.boxes,
            exif=arguments.exif,
            classes=classes,
            rename=tuple(arguments.rename or ()),
            val_fraction=getattr(arguments, "val_fraction", ReadOptions.val_fraction),
            cache_dir=read_settings().cache_dir,
        )
    except ValueError as error:
        raise CommandFailed(error, USAGE) from error


def read_data(
    data: Path, split: str | None, format: Format | None = None, options: ReadOptions | None = None
) -> Dataset:
    """The annotated images, with at least one object; prints the notes on them. Raises CommandFailed."""
    try:
        dataset = read_part(data, split, format, options or ReadOptions())
        require_objects(dataset, data, split, "measure on")
    except DataOptionError as error:
        raise CommandFailed(error, USAGE) from error
    except DatasetError as error:
        raise CommandFailed(error) from error
    print_warnings(dataset.report.notes)
    return dataset


def as_written(dataset: Dataset) -> Dataset:
    """The data as the files have them, so that COCO's and VOC's own programs compute the same from these.

    Boxes are not cut, and repeated ones and those without an area count. Other formats have no such program.
    """
    if dataset.format not in SCORED_AS_WRITTEN:
        return dataset
    return replace(dataset, images=tuple(image.written or image for image in dataset.images))


def data_title(data: Path, split: str | None) -> str:
    """The name of the data in titles."""
    name = data.resolve().name
    return f"{name}, {split}" if split else name


def match_classes(dataset: Dataset, model: str, labels: Sequence[str]) -> LabelMatch:
    """The classes that data and model have in common; raises CommandFailed where there is none."""
    match = match_labels(dataset.labels, labels)
    if not match.known:
        of_model, of_data = ", ".join(match.extra), ", ".join(dataset.labels[1:])
        raise CommandFailed(
            f"{model} knows no class of the data, which has {of_data}; the model has {of_model}. "
            "Classes are matched by name: rename those of the data, or take another model"
        )
    return match
