"""`rcnn evaluate`: how good a model is on an annotated data set, in this process or behind a service.

It asks for every detection from a score of 0.05 on, at most 100 an image, with the NMS threshold of the
model's card. Classes are matched by name (models/evaluation/labels.py).
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands import USAGE, CommandFailed
from app.commands.arguments import EvaluateArguments
from app.commands.evaluate.answer_source import AnswerSource, local_source, service_source
from app.commands.evaluate.files import write_csv, write_results
from app.commands.evaluate.report import Collected, Evaluated, print_tables, to_document, warnings_of
from app.commands.shared.checks import make_folder, require_extra
from app.commands.shared.console import print_warnings, read_settings
from app.commands.shared.dataset import as_written, data_options, data_title, match_classes, read_data
from app.commands.shared.progress import loading_status, open_bar
from app.commands.shared.recording import check_recordable, record
from app.commands.shared.request_options import check_options
from app.commands.shared.service_client import open_service
from app.schemas.options import DetectOptions
from models.datasets import Dataset
from models.detections import Detections
from models.evaluation.labels import LabelMatch
from models.evaluation.predictions import FLOOR, MOST_DETECTIONS
from models.options import Options

if TYPE_CHECKING:
    from models.evaluation.assessment import Assessment
    from models.evaluation.voc import VocScores

SHOWN = 3  # reasons in an error
LOCAL_OPTIONS = ("model", "device", "engine", "precision")  # the first is of a service too


def run(arguments: EvaluateArguments) -> int:
    """Evaluate; 1 if an image could not be detected in."""
    _check(arguments)
    settings = read_settings(**{name: getattr(arguments, name) for name in LOCAL_OPTIONS})
    if arguments.record:
        check_recordable(settings)
    views = check_options({"tile": arguments.tile, "flip": arguments.flip})
    dataset = as_written(
        read_data(arguments.data, arguments.split, arguments.format, data_options(arguments))
    )
    with _open_source(arguments, views) as source:
        match = match_classes(dataset, source.model.name, source.model.labels)
        collected = _collect(dataset, source, match)
    evaluated = Evaluated(
        data=data_title(arguments.data, arguments.split),
        dataset=dataset,
        model=source.model,
        match=match,
        collected=collected,
        assessment=_assess(dataset, source, collected),
        voc=_score_voc(dataset, collected) if arguments.measure == "voc" else None,
    )
    written = _write(arguments, evaluated)
    print_warnings(warnings_of(evaluated))
    if arguments.json:
        print(json.dumps(to_document(evaluated), indent=2))
    else:
        print_tables(evaluated, written)
    if arguments.record:
        title = data_title(arguments.data, arguments.split)
        record(settings, dataset, title, lambda line: print(line, file=sys.stderr))
    return 1 if collected.faults or collected.unreadable else 0


def _check(arguments: EvaluateArguments) -> None:
    """Raise CommandFailed for what would fail after the work, and for options that exclude one another."""
    typed = [f"--{name}" for name in LOCAL_OPTIONS[1:] if getattr(arguments, name) is not None]
    if arguments.url is not None and typed:
        raise CommandFailed(f"--url evaluates the model of a service; leave out {', '.join(typed)}", USAGE)
    views = [name for name in ("url", "tile", "flip") if getattr(arguments, name)]
    if arguments.record and views:
        raise CommandFailed(f"--record measures whole images in this process; leave out --{views[0]}", USAGE)
    require_extra("train")
    for option, folder in (
        ("--plots", arguments.plots),
        ("--results", arguments.results and arguments.results.parent),
        ("--csv", arguments.csv and arguments.csv.parent),
    ):
        if folder is not None:
            make_folder(option, folder)


@contextmanager
def _open_source(arguments: EvaluateArguments, views: DetectOptions) -> Iterator[AnswerSource]:
    if arguments.url is not None:
        with open_service(arguments.url, arguments.api_key) as client:
            yield service_source(client, arguments.url, views, arguments.model)
        return
    with loading_status() as observe:
        settings = read_settings(**{name: getattr(arguments, name) for name in LOCAL_OPTIONS})
        source = local_source(settings, views, observe)
    try:
        yield source
    except MemoryError as error:
        raise CommandFailed(error) from error


def _collect(dataset: Dataset, source: AnswerSource, match: LabelMatch) -> Collected:
    # Only the data's classes: detections of others would count against the limit of an image.
    classes = match.known if match.extra else None
    options = Options(FLOOR, source.model.nms_threshold, MOST_DETECTIONS, classes)
    files = [image.path for image in dataset.images]
    answers: dict[int, Detections] = {}
    faults: dict[str, str] = {}
    found = dataset.report.faults
    unreadable = {fault.where: fault.detail for fault in found if fault.kind == "unreadable_image"}
    started = time.perf_counter()
    with open_bar(len(files), "Evaluating") as advance:
        for answer in source.ask(files, options):
            if answer.fault is not None:
                (unreadable if answer.unreadable else faults)[str(files[answer.index])] = answer.fault
            if not answer.unreadable:
                answers[answer.index] = match.translate(answer.detections)
            advance()
    images = [dataset.images[index] for index in sorted(answers)]
    seconds = time.perf_counter() - started
    return _checked(
        Collected(tuple(images), tuple(answers[k] for k in sorted(answers)), faults, unreadable, seconds)
    )


def _checked(collected: Collected) -> Collected:
    """Raises CommandFailed where nothing that could be read has an object: there is no AP."""
    if any((~image.crowd).any() for image in collected.images):
        return collected
    reasons = "".join(f"\n  {file}: {why}" for file, why in [*collected.unreadable.items()][:SHOWN])
    raise CommandFailed(
        f"no AP: {len(collected.unreadable)} images could not be read, the {len(collected.images)} others "
        f"have no object; replace the damaged files{reasons}"
    )


def _assess(dataset: Dataset, source: AnswerSource, collected: Collected) -> "Assessment":
    from models.evaluation.assessment import assess
    from models.evaluation.coco import GroundTruth

    truths = [GroundTruth.of(image) for image in collected.images]
    files = [image.path.name for image in collected.images]
    threshold = max(FLOOR, source.model.score_threshold)
    return assess(truths, collected.answers, dataset.labels, threshold, files)


def _score_voc(dataset: Dataset, collected: Collected) -> "VocScores":
    from models.evaluation.coco import GroundTruth
    from models.evaluation.voc import score_voc

    truths = [GroundTruth.of(image) for image in collected.images]
    return score_voc(truths, collected.answers, dataset.labels)


def _write(arguments: EvaluateArguments, evaluated: Evaluated) -> list[Path]:
    """Write the results, the table and the plots; the files."""
    from models.evaluation.plots import draw_pictures

    assessment = evaluated.assessment
    written: list[Path] = []
    try:
        if arguments.results is not None:
            written += write_results(arguments.results, evaluated)
        if arguments.csv is not None:
            written.append(write_csv(arguments.csv, evaluated))
        if arguments.plots is not None:
            title = f"{evaluated.model.name} on {evaluated.data}"
            written += draw_pictures(assessment, arguments.plots, title)
    except OSError as error:
        raise CommandFailed(f"{error.filename}: {error.strerror}; name a file that can be written") from error
    return written
