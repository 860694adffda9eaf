"""A card as TOML text, for the programs that write cards."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from models.zoo.accuracy import Accuracy
from models.zoo.cards import Card
from models.zoo.download import PARTIAL
from models.zoo.sections import SECTIONS

TABLES = ("training", "accuracy", "int8")


def card_text(card: Card) -> str:
    """The card's text: its keys, then its tables; a section's key at its default is left out."""
    values = card.model_dump(mode="json", exclude=set(SECTIONS) | set(TABLES), exclude_none=True)
    tables = card.model_dump(mode="json", include=set(TABLES), exclude_none=True)
    lines = [_row(key, value) for key, value in values.items()]
    for name in SECTIONS:
        lines += _table(name, getattr(card, name).model_dump(mode="json", exclude_defaults=True))
    for name in TABLES:
        lines += _table(name, tables.get(name, {}))
    return "\n".join(lines) + "\n"


def can_record(card: Card) -> bool:
    """Whether the card's file can be written."""
    return card.path is not None and os.access(card.path, os.W_OK)


def record_accuracy(card: Card, measured: Accuracy, sha256: str) -> Accuracy:
    """Write the [accuracy] table in the card's file, joined with what it has; the whole record."""
    joined = card.recorded_accuracy.joined(measured) if card.recorded_accuracy else measured
    write_tables(card, {"accuracy": joined.model_dump(exclude_none=True)}, sha256)
    return joined


def write_tables(card: Card, tables: Mapping[str, Mapping[str, Any]], sha256: str) -> None:
    """Write or replace whole tables in the card's file; the rest of it stays as it is.

    A card of a weights file without a `sha256` gets that key too: the tables are about these weights.
    """
    if card.path is None:
        raise ValueError(f"{card.name} has no file")
    text = card.path.read_text(encoding="utf-8")
    for name in tables:
        text = re.sub(rf"(?ms)^\[{name}\].*?(?=^\[|\Z)", "", text).rstrip() + "\n"
    if card.sha256 is None and card.weights_file is not None and not re.search(r"(?m)^sha256\s*=", text):
        text = f'sha256 = "{sha256}"\n{text}'  # keys of the top level come before any table
    lines = [line for name, values in tables.items() for line in _table(name, values)]
    partial = card.path.with_suffix(PARTIAL)
    partial.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(card.path)


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    return ["", f"[{name}]", *(_row(key, value) for key, value in values.items())] if values else []


def _row(key: str, value: Any) -> str:
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"
