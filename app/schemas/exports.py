"""Detections as files of annotation tools: COCO, YOLO, Pascal VOC, Label Studio, CSV, GeoJSON."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np

from models.detections import BoxFormat, Detections, convert_boxes

PIXEL_DECIMALS, FRACTION_DECIMALS, SCORE_DECIMALS = 3, 7, 6


@dataclass(frozen=True, eq=False)
class Subject:
    """The image's file name and size (width, height), the model and its labels by id."""

    file_name: str
    size: tuple[int, int]
    model: str
    labels: Mapping[int, str]


@dataclass(frozen=True)
class ExportedObject:
    """One object: its label id and name, its score, its box in the format of the export."""

    label: int
    name: str
    score: float
    box: list[float]


@dataclass(frozen=True)
class LabelStudioTags:
    """The names of the RectangleLabels and of the image in a labelling configuration."""

    from_name: str
    to_name: str


def _objects(
    detections: Detections, subject: Subject, box_format: BoxFormat, fractions: bool = False
) -> list[ExportedObject]:
    size = subject.size if fractions else None
    boxes = convert_boxes(detections.boxes, box_format, size).astype(np.float64)
    decimals = FRACTION_DECIMALS if fractions else PIXEL_DECIMALS
    scores = detections.scores.astype(np.float64).round(SCORE_DECIMALS).tolist()
    rows = zip(detections.labels.tolist(), scores, boxes.round(decimals).tolist(), strict=True)
    # COCO's numbering has ids without a class, which no file can have.
    return [
        ExportedObject(label, subject.labels[label], *rest)
        for label, *rest in rows
        if label in subject.labels
    ]


def to_coco(detections: Detections, subject: Subject) -> str:
    """A COCO dataset of one image; its annotations have scores, so they are valid COCO results too."""
    width, height = subject.size
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": item.label,
            "bbox": item.box,
            "area": round(item.box[2] * item.box[3], PIXEL_DECIMALS),
            "iscrowd": 0,
            "score": item.score,
        }
        for number, item in enumerate(_objects(detections, subject, "xywh"), 1)
    ]
    dataset = {
        "info": {"description": f"detections of {subject.model}"},
        "images": [{"id": 1, "file_name": subject.file_name, "width": width, "height": height}],
        "categories": [{"id": label, "name": name} for label, name in subject.labels.items()],
        "annotations": annotations,
    }
    return json.dumps(dataset)


def to_yolo(detections: Detections, subject: Subject) -> str:
    """A line `class cx cy w h` for each object, in fractions of the image; classes from 0, as in /labels."""
    numbers = {label: number for number, label in enumerate(subject.labels)}
    objects = _objects(detections, subject, "cxcywh", fractions=True)
    lines = [f"{numbers[item.label]} {' '.join(f'{value:.7f}' for value in item.box)}\n" for item in objects]
    return "".join(lines)


def to_voc(detections: Detections, subject: Subject) -> str:
    """A Pascal VOC annotation file; corners in whole pixels from 0, as in most tools."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = subject.file_name
    size = ElementTree.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*subject.size, 3), strict=True):
        ElementTree.SubElement(size, name).text = str(value)
    for item in _objects(detections, subject, "xyxy"):
        node = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(node, "name").text = item.name
        ElementTree.SubElement(node, "difficult").text = "0"
        box = ElementTree.SubElement(node, "bndbox")
        for name, corner in zip(("xmin", "ymin", "xmax", "ymax"), item.box, strict=True):
            ElementTree.SubElement(box, name).text = str(round(corner))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def to_labelstudio(detections: Detections, subject: Subject) -> str:
    """A task with predictions, for a labelling with <RectangleLabels name="label" toName="image">."""
    objects = _objects(detections, subject, "xywh", fractions=True)
    tags = LabelStudioTags("label", "image")
    results = [
        {"id": f"object-{number}"}
        | labelstudio_region(tags, subject.size, item.name, item.score, _percent(item.box))
        for number, item in enumerate(objects, 1)
    ]
    best = objects[0].score if objects else 0.0
    prediction = {"model_version": subject.model, "score": best, "result": results}
    return json.dumps([{"data": {"image": subject.file_name}, "predictions": [prediction]}])


def _percent(fractions: list[float]) -> list[float]:
    return [round(fraction * 100, FRACTION_DECIMALS - 2) for fraction in fractions]


def labelstudio_region(
    tags: LabelStudioTags, size: tuple[int, int], name: str, score: float, percent: list[float]
) -> dict[str, Any]:
    """A rectangle of Label Studio: upper left corner, width and height in per cent of the image."""
    value = dict(zip(("x", "y", "width", "height"), percent, strict=True))
    return {
        "type": "rectanglelabels",
        "from_name": tags.from_name,
        "to_name": tags.to_name,
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
        "score": score,
        "value": value | {"rotation": 0, "rectanglelabels": [name]},
    }


# A spreadsheet takes a cell that begins so for a formula, or splits it (OWASP, CSV injection).
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def _cell(text: str) -> str:
    """A text as a cell that no spreadsheet runs."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def to_csv(detections: Detections, subject: Subject) -> str:
    """A header, and a line for each object: corners in pixels. A text like a formula gets an apostrophe."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["image", "name", "label", "score", "xmin", "ymin", "xmax", "ymax"])
    for item in _objects(detections, subject, "xyxy"):
        table.writerow([_cell(subject.file_name), _cell(item.name), item.label, item.score, *item.box])
    return text.getvalue()


def to_geojson(detections: Detections, subject: Subject) -> str:
    """A polygon for each object, in pixels with y downwards, as QuPath and QGIS read them."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [_ring(*item.box)]},
            "properties": {"name": item.name, "label": item.label, "score": item.score},
        }
        for item in _objects(detections, subject, "xyxy")
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def _ring(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


EXPORTS: dict[str, tuple[str, Callable[[Detections, Subject], str]]] = {
    "coco": ("application/json", to_coco),
    "yolo": ("text/plain; charset=utf-8", to_yolo),
    "voc": ("application/xml", to_voc),
    "labelstudio": ("application/json", to_labelstudio),
    "csv": ("text/csv; charset=utf-8", to_csv),
    "geojson": ("application/geo+json", to_geojson),
}
"""Media type and writer of each format."""
