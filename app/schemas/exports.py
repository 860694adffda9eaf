"""Detections as the files of annotation tools: COCO, YOLO, Pascal VOC, Label Studio, CSV, GeoJSON."""

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
    """What was looked at: the image's file name and (width, height), the model and its labels by id."""

    file_name: str
    size: tuple[int, int]
    model: str
    labels: Mapping[int, str]


@dataclass(frozen=True)
class Found:
    """One object: its label id and name, its score, its box in the format that was asked for."""

    label: int
    name: str
    score: float
    box: list[float]


def _objects(found: Detections, subject: Subject, box_format: BoxFormat, shares: bool = False) -> list[Found]:
    boxes = convert_boxes(found.boxes, box_format, subject.size if shares else None).astype(np.float64)
    decimals = FRACTION_DECIMALS if shares else PIXEL_DECIMALS
    scores = found.scores.astype(np.float64).round(SCORE_DECIMALS).tolist()
    rows = zip(found.labels.tolist(), scores, boxes.round(decimals).tolist(), strict=True)
    # An id that stands for nothing, as COCO's numbering has some, is no class of any file.
    return [Found(label, subject.labels[label], *rest) for label, *rest in rows if label in subject.labels]


def to_coco(found: Detections, subject: Subject) -> str:
    """A COCO dataset of one image; its annotations have a score, so they are a list of COCO results too."""
    width, height = subject.size
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": one.label,
            "bbox": one.box,
            "area": round(one.box[2] * one.box[3], PIXEL_DECIMALS),
            "iscrowd": 0,
            "score": one.score,
        }
        for number, one in enumerate(_objects(found, subject, "xywh"), 1)
    ]
    dataset = {
        "info": {"description": f"detections of {subject.model}"},
        "images": [{"id": 1, "file_name": subject.file_name, "width": width, "height": height}],
        "categories": [{"id": label, "name": name} for label, name in subject.labels.items()],
        "annotations": annotations,
    }
    return json.dumps(dataset)


def to_yolo(found: Detections, subject: Subject) -> str:
    """A line `class cx cy w h` an object, in shares of the image; classes from 0, in the order of /labels."""
    numbers = {label: number for number, label in enumerate(subject.labels)}
    objects = _objects(found, subject, "cxcywh", shares=True)
    lines = [f"{numbers[one.label]} {' '.join(f'{value:.7f}' for value in one.box)}\n" for one in objects]
    return "".join(lines)


def to_voc(found: Detections, subject: Subject) -> str:
    """An annotation file of Pascal VOC's format; corners in whole pixels from 0, as in most tools."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = subject.file_name
    size = ElementTree.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*subject.size, 3), strict=True):
        ElementTree.SubElement(size, name).text = str(value)
    for one in _objects(found, subject, "xyxy"):
        node = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(node, "name").text = one.name
        ElementTree.SubElement(node, "difficult").text = "0"
        box = ElementTree.SubElement(node, "bndbox")
        for name, corner in zip(("xmin", "ymin", "xmax", "ymax"), one.box, strict=True):
            ElementTree.SubElement(box, name).text = str(round(corner))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def to_labelstudio(found: Detections, subject: Subject) -> str:
    """A task with predictions; for a labelling of <RectangleLabels name="label" toName="image">."""
    width, height = subject.size
    objects = _objects(found, subject, "xywh", shares=True)
    results = [
        {
            "id": f"object-{number}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": one.score,
            "value": _percent(one.box) | {"rotation": 0, "rectanglelabels": [one.name]},
        }
        for number, one in enumerate(objects, 1)
    ]
    best = objects[0].score if objects else 0.0
    prediction = {"model_version": subject.model, "score": best, "result": results}
    return json.dumps([{"data": {"image": subject.file_name}, "predictions": [prediction]}])


def _percent(shares: list[float]) -> dict[str, Any]:
    values = [round(share * 100, FRACTION_DECIMALS - 2) for share in shares]
    return dict(zip(("x", "y", "width", "height"), values, strict=True))


def to_csv(found: Detections, subject: Subject) -> str:
    """A header, and a line an object: corners in pixels."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["image", "name", "label", "score", "xmin", "ymin", "xmax", "ymax"])
    for one in _objects(found, subject, "xyxy"):
        table.writerow([subject.file_name, one.name, one.label, one.score, *one.box])
    return text.getvalue()


def to_geojson(found: Detections, subject: Subject) -> str:
    """A polygon an object, in pixels of the image with y downwards, as QuPath and QGIS read them."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [_ring(*one.box)]},
            "properties": {"name": one.name, "label": one.label, "score": one.score},
        }
        for one in _objects(found, subject, "xyxy")
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
"""Media type and writer of each format, by its name."""
