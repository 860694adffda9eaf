"""A card as TOML text, for the programs that write cards."""

import json
from typing import Any

from models.zoo.cards import Card
from models.zoo.sections import SECTIONS

TABLES = ("training", "int8")


def card_text(card: Card) -> str:
    """The card's text: its keys, then its tables; a section's key at its default is left out."""
    values = card.model_dump(mode="json", exclude=set(SECTIONS) | set(TABLES), exclude_none=True)
    lines = [_row(key, value) for key, value in values.items()]
    for name in SECTIONS:
        lines += _table(name, getattr(card, name).model_dump(mode="json", exclude_defaults=True))
    for name in TABLES:
        lines += _table(name, getattr(card, name) or {})
    return "\n".join(lines) + "\n"


def _table(name: str, values: dict[str, Any]) -> list[str]:
    return ["", f"[{name}]", *(_row(key, value) for key, value in values.items())] if values else []


def _row(key: str, value: Any) -> str:
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"
