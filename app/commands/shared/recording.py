"""Measures a model in each precision of this machine and writes the AP on its card."""

import shlex
import sys
from collections.abc import Callable

from app.commands import CommandFailed
from app.serving.loading import spec_of
from app.settings.settings import Settings
from models.datasets import Dataset
from models.zoo.cards import Card, CardError
from models.zoo.catalogue import find_card


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


def command_line() -> str:
    """This call of `rcnn`, for a record."""
    return shlex.join(["rcnn", *sys.argv[1:]])
