"""Output of `rcnn evaluate`: tables, or one JSON object, and warnings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from app.commands.evaluate.answer_source import ModelFacts
from app.commands.shared.console import open_console, plain_table
from app.commands.shared.dataset import SCORED_AS_WRITTEN
from models.datasets import AnnotatedImage, Dataset
from models.detections import Detections
from models.evaluation.labels import LabelMatch
from models.evaluation.predictions import FLOOR, MOST_DETECTIONS

if TYPE_CHECKING:
    from models.evaluation.assessment import Assessment
    from models.evaluation.voc import VocScores

NONE = "-"  # nothing to measure
FAULTY_BOXES = {"degenerate", "clipped", "outside", "duplicate"}


@dataclass(frozen=True)
class Collected:
    """The images that could be read, the detections of each, in the data's label ids; seconds.

    faults: of readable files without detections, whose objects count as missed. unreadable: of damaged files,
    which are left out.
    """

    images: tuple[AnnotatedImage, ...]
    answers: tuple[Detections, ...]
    faults: dict[str, str]
    unreadable: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class Evaluated:
    """One run: a title of the data, the data, the model, the match of their classes, and the results."""

    data: str
    dataset: Dataset
    model: ModelFacts
    match: LabelMatch
    collected: Collected
    assessment: "Assessment"
    voc: "VocScores | None" = None

    @property
    def seconds_per_image(self) -> float:
        """Wall-clock time, decoding included, loading not."""
        return self.collected.seconds / len(self.dataset.images)


def warnings_of(evaluated: Evaluated) -> Iterator[str]:
    """What qualifies the numbers."""
    dataset, model, collected = evaluated.dataset, evaluated.model, evaluated.collected
    if model.fallback_reason is not None:
        yield f"{model.name} is evaluated: {model.fallback_reason}"
    objects = {each.name: each.objects for each in evaluated.assessment.classes}
    for name in evaluated.match.missing:
        yield f"{model.name} has no class {name}: its {objects[name]} objects count as missed"
    if dataset.report.faults:
        counts = ", ".join(f"{count} {kind}" for kind, count in dataset.report.counts.items())
        boxes = FAULTY_BOXES & dataset.report.counts.keys() and dataset.format in SCORED_AS_WRITTEN
        scored = "; boxes count as the files have them, as in pycocotools and VOC's kit" if boxes else ""
        yield f"faults of the annotations: {counts}{scored}"
    if collected.faults:
        count, total = len(collected.faults), len(dataset.images)
        yield f"{count} of {total} images got no answer: their objects count as missed"
    if collected.unreadable:
        count, others = len(collected.unreadable), len(collected.images)
        yield f"{count} of {count + others} images could not be read: AP is over the {others} others"
    for file, fault in (collected.faults | collected.unreadable).items():
        yield f"{file}: {fault}"


def to_document(evaluated: Evaluated) -> dict[str, Any]:
    """Everything, as plain values."""
    dataset, model = evaluated.dataset, evaluated.model
    return {
        "data": {
            "name": evaluated.data,
            "format": dataset.format,
            "labels": list(dataset.labels),
            "annotations": dataset.report.as_dict(),
        },
        "model": model.to_dict(),
        "asked": {
            "score_threshold": FLOOR,
            "nms_threshold": model.nms_threshold,
            "max_detections": MOST_DETECTIONS,
        },
        "classes_only_in_data": list(evaluated.match.missing),
        "classes_only_in_model": list(evaluated.match.extra),
        **evaluated.assessment.to_dict(),
        "seconds": {"total": evaluated.collected.seconds, "per_image": evaluated.seconds_per_image},
        **({"voc": evaluated.voc.to_dict()} if evaluated.voc else {}),
        "images_without_answer": evaluated.collected.faults,
        "unreadable_images": evaluated.collected.unreadable,
        "warnings": list(warnings_of(evaluated)),
    }


def print_tables(evaluated: Evaluated, written: list[Path]) -> None:
    """Print the tables."""
    out = open_console()
    out.print(_head(evaluated), soft_wrap=True)
    out.print()
    out.print(_numbers(evaluated.assessment))
    out.print()
    out.print(_classes(evaluated.assessment))
    if evaluated.voc is not None:
        out.print()
        out.print(_voc(evaluated.voc))
    if evaluated.match.extra:
        count = len(evaluated.match.extra)
        out.print(Text(f"\n{count} classes that only the model has were left out", "dim"), soft_wrap=True)
    for path in written:
        out.print(Text(f"written: {path}"), soft_wrap=True)


def _head(evaluated: Evaluated) -> Text:
    model, counts = evaluated.model, evaluated.assessment.counts
    ignored = f" and {counts.ignored} ignored" if counts.ignored else ""
    where = [model.engine, model.precision, model.device, model.url]
    return Text.assemble(
        (f"{model.name} on {evaluated.data}", "bold"),
        f"\n{counts.images} images, {counts.objects} objects{ignored}; {counts.detections} detections from "
        f"score {FLOOR} on\n{' · '.join(part for part in where if part)} · "
        f"{evaluated.seconds_per_image:.3f} s an image",
    )


def _numbers(assessment: "Assessment") -> Table:
    numbers, counts = assessment.numbers, assessment.counts
    table = plain_table("", numbers=("IoU .50:.95", "IoU .50", "IoU .75", "small", "medium", "large"))
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    table.add_row(Text("precision (AP)", "bold"), *(_number(numbers[name]) for name in names))
    recalls = (_number(numbers[f"AR_{size}"]) for size in ("small", "medium", "large"))
    table.add_row(Text("recall (AR), 100 an image", "bold"), _number(numbers["AR_100"]), "", "", *recalls)
    for most in (10, 1):
        table.add_row(Text(f"recall, {most} an image"), _number(numbers[f"AR_{most}"]))
    sizes = (str(count) for count in counts.objects_by_size.values())
    table.add_row("objects", str(counts.objects), "", "", *sizes)
    return table


def _classes(assessment: "Assessment") -> Table:
    at = f"at {assessment.threshold:g}"
    titles = ("objects", "AP", "AP50", f"precision {at}", f"recall {at}", f"F1 {at}", "best F1", "at score")
    table = plain_table("class", numbers=titles)
    for each in assessment.classes:
        if not each.objects:
            table.add_row(Text(each.name), "0", *[NONE] * (len(titles) - 1))
            continue
        values = (each.AP, each.AP50, each.precision, each.recall, each.f1, each.best_f1, each.best_threshold)
        table.add_row(Text(each.name, "bold"), str(each.objects), *(_number(value) for value in values))
    return table


def _voc(scores: "VocScores") -> Table:
    table = plain_table("VOC, IoU .50", numbers=("objects", "AP", "AP, 11 points"))
    objects = sum(each.objects for each in scores.classes)
    table.add_row(Text("mAP", "bold"), str(objects), _number(scores.mAP), _number(scores.mAP_11_points))
    for each in scores.classes:
        table.add_row(Text(each.name), str(each.objects), _number(each.AP), _number(each.AP_11_points))
    return table


def _number(value: float) -> str:
    return NONE if value < 0 else f"{value:.3f}"
