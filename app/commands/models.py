"""`rcnn models`: the catalogue."""

import json

from rich.table import Table
from rich.text import Text

from app.commands import CommandFailed
from app.commands.overview_arguments import ModelsArguments
from app.commands.shared.console import open_console, plain_table, print_warnings, read_settings
from models.zoo.cards import UNUSED_LABEL, Card, CardError
from models.zoo.catalogue import read_cards


def run(arguments: ModelsArguments) -> int:
    """List the cards; the exit code."""
    try:
        found = read_cards(read_settings().model_dir)
    except CardError as error:
        raise CommandFailed(error) from error
    print_warnings(f"a card is left out: {fault}" for fault in found.faults.values())
    cards = found.by_name
    if arguments.json:
        print(json.dumps([card.model_dump(mode="json") for card in cards.values()], indent=2))
    else:
        open_console().print(_table(list(cards.values())))
    return 0


def _table(cards: list[Card]) -> Table:
    table = plain_table("name", "architecture", numbers=("classes", "AP"))
    table.add_column("weights")
    for card in cards:
        classes = sum(label != UNUSED_LABEL for label in card.labels[1:])
        cells = (card.architecture, str(classes), _precision(card), _weights(card))
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
