"""Writes an imported model: NAME.toml beside NAME.safetensors."""

import re
from collections.abc import Sequence
from pathlib import Path

from models.checkpoints.errors import CheckpointError
from models.importing.imported import Imported
from models.zoo.card_text import card_text
from models.zoo.cards import FILE, UNUSED_LABEL, Card, CardError, read_card
from models.zoo.download import PARTIAL

BACKGROUND = "background"
NOT_IN_NAMES = re.compile(r"[^a-z0-9_.-]+")
LONGEST_NAME = 64


def model_name(wanted: str | None, checkpoint: Path) -> str:
    """The name given, else one made of the checkpoint's folder and file."""
    if wanted:
        return wanted
    folder = checkpoint.absolute().parent.name
    made = NOT_IN_NAMES.sub("-", f"{folder}-{checkpoint.name.partition('.')[0]}".lower()).strip("-_.")
    return made[:LONGEST_NAME] or "imported"


def read_labels(given: str | None, imported: Imported) -> list[str]:
    """The labels, background first: those given, else those found; raises CheckpointError."""
    names = _given(given) if given else list(imported.classes or ())
    if names[:1] and names[0].strip("_") == BACKGROUND:
        names = names[1:]
    if given and len(names) != imported.class_count:
        raise CheckpointError(
            f"--labels names {len(names)} classes; the weights have {imported.class_count} without background"
        )
    if not names:
        names = [f"class{number}" for number in range(1, imported.class_count + 1)]
    return [BACKGROUND, *_distinct(names)]


def _given(given: str) -> list[str]:
    """Names of a file, one a line, or of a list with commas."""
    path = Path(given)
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip()]
    return [name.strip() for name in given.split(",") if name.strip()]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names; one that repeats gets its number."""
    return [
        f"{name} {number}" if name in names[: number - 1] and name != UNUSED_LABEL else name
        for number, name in enumerate(names, 1)
    ]


def make_card(name: str, labels: Sequence[str], imported: Imported, path: Path) -> Card:
    """The card, checked; raises CardError."""
    values = {
        "name": name,
        "architecture": imported.architecture,
        "weights": f"{FILE}{path.with_suffix('.safetensors').name}",
        "labels": list(labels),
        **imported.keys,
        **imported.sections,
        "training": {"imported_from": imported.source},
        "path": path,
    }
    try:
        return Card.model_validate(values)
    except ValueError as error:
        raise CardError(f"the configuration of the checkpoint makes no usable card: {error}") from error


def write_card(card: Card, sha256: str, path: Path) -> Card:
    """Write the card with its weights' hash and read it again."""
    partial = path.with_suffix(PARTIAL)
    partial.write_text(card_text(card.model_copy(update={"sha256": sha256})), encoding="utf-8")
    partial.replace(path)
    return read_card(path)
