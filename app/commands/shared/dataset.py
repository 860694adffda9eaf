"""The annotated images that a model is measured on."""

from collections.abc import Sequence
from pathlib import Path

from app.commands import CommandFailed
from models.datasets import Dataset, DatasetError, Format, read_dataset
from models.evaluation.labels import LabelMatch, match_labels


def read_data(data: Path, split: str | None, format: Format | None = None) -> Dataset:
    """The annotated images; raises CommandFailed."""
    try:
        return read_dataset(data, split=split, format=format)
    except DatasetError as error:
        raise CommandFailed(error) from error


def require_objects(dataset: Dataset, title: str) -> None:
    """Raise CommandFailed where there is no object that counts: every number would be none."""
    if dataset.report.objects > dataset.report.ignored:
        return
    raise CommandFailed(
        f"{title}: no object to measure on; annotate objects, or name another split or folder\n"
        f"{dataset.report.summary()}"
    )


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
