"""The files of `rcnn evaluate`: COCO results, and a table of the numbers by class and size."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.evaluate.report import Evaluated
from models.evaluation.coco_ids import ids_of

if TYPE_CHECKING:
    from models.evaluation.assessment import ClassReport

ALL = "(all)"
AT_THRESHOLD = ("precision", "recall", "f1", "best_f1", "best_threshold")


def write_results(path: Path, evaluated: Evaluated) -> list[Path]:
    """Write the results and, as NAME.truth.json, the ground truth; the files. Raises OSError."""
    truth, results = evaluated.assessment.truth, evaluated.assessment.results
    ids = ids_of(evaluated.dataset, evaluated.collected.images)
    if ids is not None:
        truth, results = ids.truth(truth), ids.rows(results)
    beside = path.with_suffix(".truth.json")
    path.write_text(json.dumps(results), encoding="utf-8")
    beside.write_text(json.dumps(truth), encoding="utf-8")
    return [path, beside]


def write_csv(path: Path, evaluated: Evaluated) -> Path:
    """Write a row for all classes, then one for each; an empty cell: nothing to measure. Raises OSError."""
    rows = list(_rows(evaluated))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {name: "" if isinstance(value, float) and value < 0 else value for name, value in row.items()}
            for row in rows
        )
    return path


def _rows(evaluated: Evaluated) -> Iterator[dict[str, object]]:
    assessment, counts = evaluated.assessment, evaluated.assessment.counts
    sizes = {f"objects_{size}": count for size, count in counts.objects_by_size.items()}
    total = {"class": ALL, "objects": counts.objects, **sizes, "detections": counts.detections}
    voc = [
        {"VOC_AP": each.AP, "VOC_AP_11_points": each.AP_11_points}
        for each in (evaluated.voc.classes if evaluated.voc else ())
    ] or [{} for _ in assessment.classes]
    means = (
        {"VOC_AP": evaluated.voc.mAP, "VOC_AP_11_points": evaluated.voc.mAP_11_points}
        if evaluated.voc
        else {}
    )
    yield {**total, **assessment.numbers, **dict.fromkeys(AT_THRESHOLD, ""), **means}
    for each, of_voc in zip(assessment.classes, voc, strict=True):
        yield {**_row(each), **of_voc}


def _row(each: "ClassReport") -> dict[str, object]:
    """The cells of one class."""
    measured = {name: getattr(each, name) if each.objects else "" for name in AT_THRESHOLD}
    sizes = {f"objects_{size}": count for size, count in each.objects_by_size.items()}
    counts = {"objects": each.objects, **sizes, "detections": each.detections}
    return {"class": each.name, **counts, **each.numbers, **measured}
