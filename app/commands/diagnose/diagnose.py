"""`rcnn diagnose`: which part of a model costs it AP on an annotated data set, and what to do about it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands import CommandFailed
from app.commands.arguments import DiagnoseArguments
from app.commands.diagnose.report import Diagnosed, print_report, to_document, warnings_of, write_markdown
from app.commands.evaluate.answer_source import facts_of
from app.commands.shared.checks import make_folder, require_extra
from app.commands.shared.console import print_warnings, read_settings
from app.commands.shared.dataset import data_options, data_title, match_classes, read_data
from app.commands.shared.model import load_detector
from app.commands.shared.progress import loading_status, open_bar
from models.datasets import AnnotatedImage, Dataset
from models.evaluation.labels import LabelMatch
from models.images.decoder import Limits

if TYPE_CHECKING:
    from models.detector import Detector
    from models.diagnosis.checks import Diagnosis

LOG = "metrics.jsonl"  # a training writes it beside its card


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The data, the images of it that are diagnosed, and the match of its classes with the model's."""

    dataset: Dataset
    images: Sequence[AnnotatedImage]
    match: LabelMatch


def run(arguments: DiagnoseArguments) -> int:
    """Diagnose; the exit code is 0 whatever the verdicts: it is a report."""
    require_extra("train")
    if arguments.out is not None:
        make_folder("--out", arguments.out)
    dataset = read_data(arguments.data, arguments.split, arguments.format, data_options(arguments))
    settings = read_settings(model=arguments.model, device=arguments.device)
    with loading_status() as observe:
        detector = load_detector(settings, observe)
    match = match_classes(dataset, detector.card.name, detector.card.labels)
    chosen = _Chosen(dataset, _spread(dataset.images, arguments.images), match)
    diagnosis, seen = _diagnose(detector, chosen, Limits(settings.max_pixels), _log(arguments, detector))
    title = data_title(arguments.data, arguments.split)
    diagnosed = Diagnosed(title, dataset, facts_of(detector), len(chosen.images), seen, diagnosis)
    written = _write(arguments.out, diagnosed)
    print_warnings(warnings_of(diagnosed))
    if arguments.json:
        print(json.dumps(to_document(diagnosed), indent=2))
    else:
        print_report(diagnosed, written)
    return 0


def _spread(images: Sequence[AnnotatedImage], most: int) -> Sequence[AnnotatedImage]:
    """At most `most` images, evenly spread: neighbours in a data set are often alike."""
    if len(images) <= most:
        return images
    return [images[k * len(images) // most] for k in range(most)]


def _log(arguments: DiagnoseArguments, detector: "Detector") -> Path:
    if arguments.metrics is not None:
        return arguments.metrics
    card = detector.card
    return (card.path.parent if card.path is not None else Path()) / LOG


def _diagnose(detector: "Detector", chosen: _Chosen, limits: Limits, log: Path) -> "tuple[Diagnosis, int]":
    """The diagnosis, and how many images could be read."""
    from models.diagnosis.checks import diagnose
    from models.diagnosis.inspection import InspectedModel, inspect_images
    from models.evaluation.coco import GroundTruth

    images = chosen.images
    truths = [GroundTruth.of(image) for image in images]
    model = InspectedModel(detector, chosen.match, limits)
    try:
        with open_bar(len(images), "Diagnosing") as advance:
            observations = list(inspect_images(model, truths, [image.path for image in images], advance))
    except MemoryError as error:
        raise CommandFailed(error) from error
    if not observations:
        raise CommandFailed(
            f"none of the {len(images)} images can be read; see rcnn evaluate for each one's reason"
        )
    try:
        dataset, card = chosen.dataset, detector.card
        diagnosis = diagnose(
            observations, dataset.labels, card, detector.proposal_config, log, dataset.report
        )
    except (OSError, ValueError) as error:
        raise CommandFailed(error) from error
    return diagnosis, len(observations)


def _write(folder: Path | None, diagnosed: Diagnosed) -> list[Path]:
    """The pictures and the report; the files."""
    from models.diagnosis.plots import draw_diagnosis

    if folder is None:
        return []
    try:
        pictures = draw_diagnosis(diagnosed.diagnosis, folder, f"{diagnosed.model.name} on {diagnosed.data}")
        return [*pictures.values(), write_markdown(diagnosed, pictures, folder)]
    except OSError as error:
        raise CommandFailed(f"{error.filename}: {error.strerror}; name a file that can be written") from error
