"""What `rcnn detect --format …` writes: each result as it comes, or one file of them all at the end."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from app.commands.detect.inputs import Item
from app.commands.detect.targets import Targets
from app.schemas.exports import EXPORTS, Subject
from rcnn_client import Refused, Result

Export = Callable[[Item, Result], str]


class Writer(Protocol):
    """Each gives the text that goes out now."""

    def add(self, item: Item, result: Result) -> str:
        """The detections of one image."""

    def fail(self, item: Item, error: Exception) -> str:
        """Why an image has no detections."""

    def end(self) -> str:
        """What is left to say."""


class Silent:
    """Says nothing of failures, nor at the end: what most formats have to say of them."""

    def fail(self, item: Item, error: Exception) -> str:
        """Nothing."""
        return ""

    def end(self) -> str:
        """Nothing."""
        return ""


class Lines(Silent):
    """NDJSON: a line an image, an error's too."""

    def add(self, item: Item, result: Result) -> str:
        """The answer of POST /detect, with the file's name."""
        return _json(_about(item) | result.to_dict()) + "\n"

    def fail(self, item: Item, error: Exception) -> str:
        """The error's code and text."""
        code = error.code if isinstance(error, Refused) else "failed"
        return _json(_about(item) | {"error": {"code": code, "detail": str(error)}}) + "\n"


class Array:
    """JSON: the same in an array, written as it grows."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._before = "["

    def add(self, item: Item, result: Result) -> str:
        """An element."""
        return self._element(self._lines.add(item, result))

    def fail(self, item: Item, error: Exception) -> str:
        """An element that is an error."""
        return self._element(self._lines.fail(item, error))

    def end(self) -> str:
        """The bracket."""
        return "[]\n" if self._before == "[" else "\n]\n"

    def _element(self, line: str) -> str:
        before, self._before = self._before, ","
        return f"{before}\n{line.rstrip()}"


class Table(Silent):
    """CSV: one header, then lines as they come."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._begun = False

    def add(self, item: Item, result: Result) -> str:
        """A line an object."""
        lines = self._export(item, result).splitlines(keepends=True)
        begun, self._begun = self._begun, True
        return "".join(lines[1:] if begun else lines)


class Joined(Silent):
    """One document of all images, written at the end."""

    def __init__(self, export: Export, join: Callable[[list[Any]], object]) -> None:
        self._export = export
        self._join = join
        self._parts: list[Any] = []

    def add(self, item: Item, result: Result) -> str:
        """Nothing yet."""
        part = json.loads(self._export(item, result))
        self._parts.append(_named(part, item) if isinstance(part, dict) else part)
        return ""

    def end(self) -> str:
        """The document; nothing where no image was answered."""
        return _json(self._join(self._parts)) + "\n" if self._parts else ""


class Files(Silent):
    """A file an image, in a folder."""

    def __init__(self, export: Export, targets: Targets) -> None:
        self._export = export
        self._targets = targets

    def add(self, item: Item, result: Result) -> str:
        """The file; raises OSError."""
        self._targets.path(item).write_text(self._export(item, result), encoding="utf-8", newline="")
        return ""


def open_writer(format: str, labels: Mapping[int, str], targets: Targets | None) -> Writer:
    """The writer of a format; of one with a file an image, `targets` says where."""
    if format == "ndjson":
        return Lines()
    if format == "json":
        return Array()

    def export(item: Item, result: Result) -> str:
        name = printable(item.file_name)
        subject = Subject(name, (result.width, result.height), result.model, labels)
        return EXPORTS[format][1](result.detections, subject)

    if targets is not None:
        return Files(export, targets)
    return Table(export) if format == "csv" else Joined(export, JOINS[format])


def join_coco(datasets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One dataset of several of one image each; images and annotations are numbered anew, from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, dataset in enumerate(datasets, 1):
        images += [image | {"id": number} for image in dataset["images"]]
        for one in dataset["annotations"]:
            annotations.append(one | {"id": len(annotations) + 1, "image_id": number})
    first = {key: datasets[0][key] for key in ("info", "categories")}
    return first | {"images": images, "annotations": annotations}


def join_geojson(collections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One collection of several; each feature says of which image it is."""
    features = [
        feature | {"properties": feature["properties"] | {"image": collection["image"]}}
        for collection in collections
        for feature in collection["features"]
    ]
    return {"type": "FeatureCollection", "features": features}


def join_tasks(tasks: Sequence[Sequence[Any]]) -> list[Any]:
    """Label Studio's list of tasks."""
    return [task for one in tasks for task in one]


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
    """The path as text; bytes that are no UTF-8 become question marks, for printing them would fail."""
    return os.fsencode(name).decode(errors="replace")


def _about(item: Item) -> dict[str, Any]:
    return {"file": printable(item.name), **item.about}


def _named(part: dict[str, Any], item: Item) -> dict[str, Any]:
    return part | {"image": printable(item.file_name)}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
