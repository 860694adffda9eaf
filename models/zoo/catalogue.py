"""The catalogue: every card of the zoo and of the user's folder, by name. Needs no torch."""

import logging
from dataclasses import dataclass
from pathlib import Path

from models.zoo.cards import Card, CardError, read_card

ZOO = Path(__file__).parent

logger = logging.getLogger(__name__)
_logged: set[str] = set()  # the faults that were logged: a service reads its cards on every request for them


@dataclass(frozen=True)
class Cards:
    """The cards by name, and the fault of each card that is left out, by its file."""

    by_name: dict[str, Card]
    faults: dict[Path, str]


def read_cards(model_dir: Path | None) -> Cards:
    """All cards, the zoo's first, without broken ones and those whose name is taken.

    Raises CardError where `model_dir` is not a folder.
    """
    by_name: dict[str, Card] = {}
    faults: dict[Path, str] = {}
    for path in (*_card_files(ZOO), *_user_files(model_dir)):
        try:
            card = read_card(path)
        except CardError as error:
            faults[path] = str(error)
            continue
        if card.name in by_name:
            taken = by_name[card.name].path
            faults[path] = f"{path}: {taken} already has the name {card.name!r}; give the card another name"
            continue
        by_name[card.name] = card
    return Cards(by_name, faults)


def catalogue(model_dir: Path | None) -> dict[str, Card]:
    """All cards by name, the zoo's first; a broken card is logged and left out. Raises as `read_cards`."""
    cards = read_cards(model_dir)
    for fault in cards.faults.values():
        if fault not in _logged:
            _logged.add(fault)
            logger.warning("a card is left out: %s", fault)
    return cards.by_name


def find_card(model: str, model_dir: Path | None) -> Card:
    """The card of a model's name or TOML path; raises CardError, which lists the known names.

    Another broken card does not matter; where no card has the name, it is named, as it may be the one.
    """
    if model.endswith(".toml"):
        return read_card(Path(model))
    cards = read_cards(model_dir)
    if model not in cards.by_name:
        known = ", ".join(cards.by_name)
        broken = "".join(f"; left out: {fault}" for fault in cards.faults.values())
        raise CardError(
            f"unknown model {model!r}; choose one of: {known}, or give the path of a .toml card{broken}"
        )
    return cards.by_name[model]


def _card_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.toml"))


def _user_files(model_dir: Path | None) -> list[Path]:
    if model_dir is None:
        return []
    if not model_dir.is_dir():
        raise CardError(
            f"RCNN_MODEL_DIR is {model_dir}, which is not a folder; set it to a folder or unset it"
        )
    return [*_card_files(model_dir), *sorted(model_dir.glob("*/model.toml"))]  # the latter of `rcnn train`
