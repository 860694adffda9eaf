"""`rcnn evaluate`: how good a model is on an annotated data set, here or behind a service.

It asks for every detection from a score of 0.05 on, at most 100 an image, with the NMS threshold of the
model's card. Classes are matched by name (models/evaluation/labels.py).
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from app.commands import USAGE, CommandFailed
from app.commands.arguments import EvaluateArguments
from app.commands.evaluate.report import (
    Collected,
    Evaluated,
    open_bar,
    print_tables,
    print_warnings,
    to_document,
)
from app.commands.evaluate.source import Source, ask_service, load_model
from app.commands.shared.console import read_settings
from app.commands.shared.service_client import open_service
from app.commands.shared.tile_option import Tile, read_tile
from models.datasets import Dataset, DatasetError, Format, read_dataset
from models.detections import Detections
from models.evaluation.labels import LabelMatch, match_labels
from models.evaluation.predictions import FLOOR, MOST_DETECTIONS
from models.options import Options
from rcnn_client import ClientError

if TYPE_CHECKING:
    from models.evaluation.assessment import Assessment

NEEDED = ("faster_coco_eval", "matplotlib")  # they come with the extra `train`


def run(arguments: EvaluateArguments) -> int:
    """Evaluate; 1 if an image could not be detected in."""
    _check(arguments)
    tile = read_tile(arguments.tile)
    dataset = read_data(arguments.data, arguments.split, arguments.format)
    with _open_source(arguments, tile) as source:
        match = match_classes(dataset, source.about.name, source.about.labels)
        collected = _collect(dataset, source, match)
    evaluated = Evaluated(
        data=data_title(arguments.data, arguments.split),
        dataset=dataset,
        about=source.about,
        match=match,
        collected=collected,
        assessment=_assess(dataset, source, collected),
    )
    written = _write(arguments, evaluated)
    print_warnings(evaluated)
    if arguments.json:
        print(json.dumps(to_document(evaluated), indent=2))
    else:
        print_tables(evaluated, written)
    return 1 if collected.faults else 0


def _check(arguments: EvaluateArguments) -> None:
    """Raise CommandFailed for what would fail after the work, or cannot be meant."""
    here = ("model", "device", "engine", "precision")
    typed = [f"--{name}" for name in here if getattr(arguments, name) is not None]
    if arguments.url is not None and typed:
        raise CommandFailed(
            f"--url asks a service for the model it runs; leave out {', '.join(typed)}", USAGE
        )
    require_extra()
    for option, folder in (
        ("--plots", arguments.plots),
        ("--results", arguments.results and arguments.results.parent),
    ):
        if folder is not None:
            make_folder(option, folder)


def require_extra() -> None:
    """Raise CommandFailed where the extra `train` is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise CommandFailed(
            f"{', '.join(missing)} is missing; install it with: pip install 'rcnn-serve[train]'"
        )


def make_folder(option: str, folder: Path) -> None:
    """Make the folder that `option` names, before the work; raises CommandFailed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(f"{option} {folder}: {error.strerror}; name one that can be written") from error


def read_data(data: Path, split: str | None, format: Format | None) -> Dataset:
    """The annotated images; raises CommandFailed."""
    try:
        return read_dataset(data, split=split, format=format)
    except DatasetError as error:
        raise CommandFailed(error) from error


@contextmanager
def _open_source(arguments: EvaluateArguments, tile: Tile) -> Iterator[Source]:
    if arguments.url is None:
        settings = read_settings(
            model=arguments.model,
            device=arguments.device,
            engine=arguments.engine,
            precision=arguments.precision,
        )
        stderr = Console(stderr=True)
        with stderr.status("Loading the model") if stderr.is_terminal else nullcontext():
            source = load_model(settings, tile)
        try:
            yield source
        except MemoryError as error:
            raise CommandFailed(error) from error
        return
    with open_service(arguments.url, arguments.api_key) as client:
        try:
            yield ask_service(client, arguments.url, tile)
        except ClientError as error:
            raise CommandFailed(error) from error


def match_classes(dataset: Dataset, name: str, labels: Sequence[str]) -> LabelMatch:
    """The classes of the data among those of the model `name`; raises CommandFailed where there is none."""
    match = match_labels(dataset.labels, labels)
    if not match.known:
        theirs, ours = ", ".join(match.extra), ", ".join(dataset.labels[1:])
        raise CommandFailed(
            f"{name} knows no class of the data, which has {ours}; the model has {theirs}. "
            "Classes are matched by name: rename one side's, or take another model"
        )
    return match


def _collect(dataset: Dataset, source: Source, match: LabelMatch) -> Collected:
    # Only the data's classes are asked for, lest others take up the detections that an image may have.
    classes = match.known if match.extra else None
    options = Options(FLOOR, source.about.nms_threshold, MOST_DETECTIONS, classes)
    files = [image.path for image in dataset.images]
    answers = [Detections.empty()] * len(files)
    faults = {}
    started = time.perf_counter()
    with open_bar(len(files)) as advance:
        for answer in source.ask(files, options):
            answers[answer.index] = match.translate(answer.detections)
            if answer.fault is not None:
                faults[str(files[answer.index])] = answer.fault
            advance()
    return Collected(tuple(answers), faults, time.perf_counter() - started)


def _assess(dataset: Dataset, source: Source, collected: Collected) -> "Assessment":
    from models.evaluation.assessment import assess
    from models.evaluation.coco import GroundTruth

    truths = [GroundTruth.of(image) for image in dataset.images]
    files = [image.path.name for image in dataset.images]
    threshold = max(FLOOR, source.about.score_threshold)
    return assess(truths, collected.answers, dataset.labels, threshold, files)


def _write(arguments: EvaluateArguments, evaluated: Evaluated) -> list[Path]:
    """Save what was asked to be saved; the files."""
    from models.evaluation.plots import draw_pictures

    assessment = evaluated.assessment
    written: list[Path] = []
    try:
        if arguments.results is not None:
            truth = arguments.results.with_suffix(".truth.json")
            arguments.results.write_text(json.dumps(assessment.results))
            truth.write_text(json.dumps(assessment.truth))
            written += [arguments.results, truth]
        if arguments.plots is not None:
            title = f"{evaluated.about.name} on {evaluated.data}"
            written += draw_pictures(assessment, arguments.plots, title)
    except OSError as error:
        raise CommandFailed(f"{error.filename}: {error.strerror}; name a file that can be written") from error
    return written


def data_title(data: Path, split: str | None) -> str:
    """What the data is called in titles."""
    name = data.resolve().name
    return f"{name}, {split}" if split else name
