"""The formats of `rcnn detect --format`: each result at once, or one document at the end."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from app.commands.detect.inputs import Item
from app.commands.detect.result import ImageRefused, ImageResult
from app.commands.detect.targets import Targets
from app.schemas.exports import EXPORTS, Subject

Export = Callable[[Item, ImageResult], str]


class Writer(Protocol):
    """Each method returns the text to write now."""

    def add(self, item: Item, result: ImageResult) -> str:
        """The detections of one image."""

    def fail(self, item: Item, error: Exception) -> str:
        """The error of one image."""

    def end(self) -> str:
        """The rest of the document."""


class NoErrors:
    """Writes nothing for failed images, nor at the end: most formats have no place for it."""

    def fail(self, item: Item, error: Exception) -> str:
        """Nothing."""
        return ""

    def end(self) -> str:
        """Nothing."""
        return ""


class Lines(NoErrors):
    """NDJSON: a line for each image or error."""

    def add(self, item: Item, result: ImageResult) -> str:
        """The response of POST /detect, with the file's name."""
        return _json(_file_fields(item) | result.to_dict()) + "\n"

    def fail(self, item: Item, error: Exception) -> str:
        """The error's code and text."""
        code = error.code if isinstance(error, ImageRefused) else "failed"
        return _json(_file_fields(item) | {"error": {"code": code, "detail": str(error)}}) + "\n"


class Array:
    """JSON: the same in an array, written element by element."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._before = "["

    def add(self, item: Item, result: ImageResult) -> str:
        """An element."""
        return self._element(self._lines.add(item, result))

    def fail(self, item: Item, error: Exception) -> str:
        """An element that is an error."""
        return self._element(self._lines.fail(item, error))

    def end(self) -> str:
        """The closing bracket."""
        return "[]\n" if self._before == "[" else "\n]\n"

    def _element(self, line: str) -> str:
        before, self._before = self._before, ","
        return f"{before}\n{line.rstrip()}"


class Table(NoErrors):
    """CSV: one header, then a line for each object."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._has_header = False

    def add(self, item: Item, result: ImageResult) -> str:
        """The lines of an image."""
        lines = self._export(item, result).splitlines(keepends=True)
        has_header, self._has_header = self._has_header, True
        return "".join(lines[1:] if has_header else lines)


class Joined(NoErrors):
    """One document of all images, written at the end."""

    def __init__(self, export: Export, join: Callable[[list[Any]], object]) -> None:
        self._export = export
        self._join = join
        self._parts: list[Any] = []

    def add(self, item: Item, result: ImageResult) -> str:
        """Nothing yet."""
        part = json.loads(self._export(item, result))
        self._parts.append(_with_image(part, item) if isinstance(part, dict) else part)
        return ""

    def end(self) -> str:
        """The document; nothing without a result."""
        return _json(self._join(self._parts)) + "\n" if self._parts else ""


class Files(NoErrors):
    """A file for each image, in a folder."""

    def __init__(self, export: Export, targets: Targets) -> None:
        self._export = export
        self._targets = targets

    def add(self, item: Item, result: ImageResult) -> str:
        """The file; raises OSError."""
        self._targets.path(item).write_text(self._export(item, result), encoding="utf-8", newline="")
        return ""


def open_writer(format: str, labels: Mapping[int, str], targets: Targets | None) -> Writer:
    """The writer of a format; `targets` are the paths of a format with a file for each image."""
    if format == "ndjson":
        return Lines()
    if format == "json":
        return Array()

    def export(item: Item, result: ImageResult) -> str:
        name = printable(item.file_name)
        subject = Subject(name, (result.width, result.height), result.model, labels)
        return EXPORTS[format][1](result.detections, subject)

    if targets is not None:
        return Files(export, targets)
    return Table(export) if format == "csv" else Joined(export, JOINS[format])


def join_coco(datasets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One dataset from several of one image each; images and annotations are numbered from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, dataset in enumerate(datasets, 1):
        images += [image | {"id": number} for image in dataset["images"]]
        for annotation in dataset["annotations"]:
            annotations.append(annotation | {"id": len(annotations) + 1, "image_id": number})
    first = {key: datasets[0][key] for key in ("info", "categories")}
    return first | {"images": images, "annotations": annotations}


def join_geojson(collections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One collection from several; each feature names its image."""
    features = [
        feature | {"properties": feature["properties"] | {"image": collection["image"]}}
        for collection in collections
        for feature in collection["features"]
    ]
    return {"type": "FeatureCollection", "features": features}


def join_tasks(tasks: Sequence[Sequence[Any]]) -> list[Any]:
    """Label Studio's list of tasks."""
    return [task for image_tasks in tasks for task in image_tasks]


JOINS: dict[str, Callable[[list[Any]], object]] = {
    "coco": join_coco,
    "geojson": join_geojson,
    "labelstudio": join_tasks,
}
FILE_AN_IMAGE = {"yolo": ".txt", "voc": ".xml"}


def write_classes(folder: Path, labels: Mapping[int, str]) -> None:
    """classes.txt, which gives YOLO's numbers their names; raises OSError."""
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in labels.values()), encoding="utf-8")


def printable(name: str) -> str:
    """The path as text; bytes that are not UTF-8 are replaced, as they could not be printed."""
    return os.fsencode(name).decode(errors="replace")


def _file_fields(item: Item) -> dict[str, Any]:
    return {"file": printable(item.name), **item.about}


def _with_image(part: dict[str, Any], item: Item) -> dict[str, Any]:
    return part | {"image": printable(item.file_name)}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
