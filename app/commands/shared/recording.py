"""Measures a model in each precision of this machine and writes the AP on its card."""

import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.commands import CommandFailed
from app.serving.loading import spec_of
from app.settings.settings import Settings
from models.datasets import Dataset
from models.zoo.cards import Card, CardError
from models.zoo.catalogue import find_card

if TYPE_CHECKING:
    from models.training.run import Data


def check_recordable(settings: Settings) -> Card:
    """The card of the first model; raises CommandFailed where it has no file that can be written."""
    from models.zoo.card_text import can_record

    try:
        card = find_card(settings.models[0], settings.model_dir)
    except CardError as error:
        raise CommandFailed(error) from error
    if not can_record(card):
        raise CommandFailed(
            f"--record: {card.path} cannot be written; copy the card, give it another name, and name its path"
        )
    return card


def record(settings: Settings, dataset: Dataset, title: str, report: Callable[[str], None]) -> None:
    """Measure each precision on the data and write the record; raises CommandFailed."""
    from models.evaluation.accuracy import MeasuredOn, measure_ap, measure_precisions
    from models.zoo.card_text import record_accuracy
    from models.zoo.quantized import fingerprint

    card, spec = check_recordable(settings), spec_of(settings)
    on = MeasuredOn(title, len(dataset.images), command_line())
    try:
        measured = measure_precisions(spec, lambda detector: measure_ap(detector, dataset), on, report)
        record_accuracy(card, measured, fingerprint(card, card.weights_file))
    except (ValueError, OSError) as error:
        raise CommandFailed(error) from error
    report(f"recorded in [accuracy] of {card.path}")


def record_trained(settings: Settings, data: "Data", *, int8: bool, report: Callable[[str], None]) -> None:
    """Record a trained model's AP in each precision, with `int8` quantize it before; raises CommandFailed.

    A model whose precisions cannot be measured is a trained model all the same.
    """
    measured_on = data.val or data.train
    title = "the validation images" if data.val else "the training images"
    if not int8:
        try:
            record(settings, measured_on, title, report)
        except CommandFailed as error:
            report(f"the precisions are not measured: {error}")
        return
    from models.quantization.run import QuantizationConfig
    from models.quantization.run import run as quantize

    config = QuantizationConfig(
        model=settings.models[0],
        cache_dir=settings.cache_dir,
        files=[image.path for image in data.train.images],
        data=measured_on,
        data_title=title,
        command=command_line(),
        threads=settings.inference_threads,
    )
    try:
        quantize(config, report)
    except (ValueError, OSError) as error:
        raise CommandFailed(f"{settings.models[0]} is written, its int8 artefact is not: {error}") from error


def command_line() -> str:
    """This call of `rcnn`, for a record."""
    return shlex.join(["rcnn", *sys.argv[1:]])
