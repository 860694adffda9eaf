"""`rcnn models`: the catalogue."""

import json
from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from app.commands import CommandFailed
from app.commands.overview_arguments import ModelsArguments
from app.commands.shared.console import open_console, plain_table, print_warnings, read_settings
from models.precision.forecast import forecast
from models.precision.proof import PrecisionChoice
from models.zoo.cards import UNUSED_LABEL, Card, CardError
from models.zoo.catalogue import read_cards


def run(arguments: ModelsArguments) -> int:
    """List the cards; the exit code."""
    try:
        settings = read_settings()
        found = read_cards(settings.model_dir)
    except CardError as error:
        raise CommandFailed(error) from error
    print_warnings(f"a card is left out: {fault}" for fault in found.faults.values())
    rows = [
        (card, forecast(card, settings.cache_dir, settings.inference_threads))
        for card in found.by_name.values()
    ]
    if arguments.json:
        print(json.dumps([_document(*row) for row in rows], indent=2))
    else:
        console = open_console()
        console.print(_table(rows))
        for line in _reasons(rows):
            console.print(line, highlight=False, soft_wrap=True)
    return 0


def _reasons(rows: list[tuple[Card, PrecisionChoice]]) -> Iterator[Text]:
    """Why RCNN_PRECISION=auto takes each precision on this CPU, a line for each reason."""
    names: dict[str, list[str]] = {}
    for card, choice in rows:
        names.setdefault(f"{choice.precision}: {choice.reason}", []).append(card.name)
    for reason, same in names.items():
        yield Text(f"\n{', '.join(same)}: {reason}")


def _document(card: Card, choice: PrecisionChoice) -> dict[str, Any]:
    """The card, and what RCNN_PRECISION=auto takes on this CPU."""
    automatic = {"precision": choice.precision, "reason": choice.reason, "hint": choice.hint}
    return {**card.model_dump(mode="json"), "auto_on_cpu": automatic}


def _table(rows: list[tuple[Card, PrecisionChoice]]) -> Table:
    table = plain_table("name", "architecture", numbers=("classes", "AP"))
    table.add_column("weights")
    table.add_column("auto on this CPU")
    for card, choice in rows:
        classes = sum(label != UNUSED_LABEL for label in card.labels[1:])
        cells = card.architecture, str(classes), _precision(card), _weights(card), choice.precision

        table.add_row(Text(card.name, "bold"), *map(Text, cells))
    return table


def _precision(card: Card) -> str:
    """AP at IoU .50:.95 from 0 to 1, as the card says it was measured or published."""
    training = card.training or {}
    ap = next((training[key] for key in ("ap", "published_ap") if key in training), None)
    return f"{ap:.3f}" if isinstance(ap, float) else ""


def _weights(card: Card) -> str:
    if card.random_seed is not None:
        return "none: to be trained"
    if card.remote_weights is not None:
        return card.public_weights
    if card.weights_file is None:
        return "torchvision"
    return card.weights_file.name if card.weights_file.is_file() else f"{card.weights_file} is missing"
