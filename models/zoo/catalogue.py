"""The catalogue: every card of the zoo and of the user's folder, by name. Needs no torch."""

from pathlib import Path

from models.zoo.cards import Card, CardError, read_card

ZOO = Path(__file__).parent


def catalogue(model_dir: Path | None) -> dict[str, Card]:
    """All cards by name, the zoo's first; raises CardError for a broken card or a duplicate name."""
    cards: dict[str, Card] = {}
    for path in (*_card_files(ZOO), *_user_files(model_dir)):
        card = read_card(path)
        if card.name in cards:
            taken = cards[card.name].path
            raise CardError(f"{path}: {taken} already has the name {card.name!r}; give the card another name")
        cards[card.name] = card
    return cards


def find_card(model: str, model_dir: Path | None) -> Card:
    """The card of a model's name or TOML path; raises CardError, which lists the known names."""
    if model.endswith(".toml"):
        return read_card(Path(model))
    cards = catalogue(model_dir)
    if model not in cards:
        known = ", ".join(cards)
        raise CardError(f"unknown model {model!r}; choose one of: {known}, or give the path of a .toml card")
    return cards[model]


def _card_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.toml"))


def _user_files(model_dir: Path | None) -> list[Path]:
    if model_dir is None:
        return []
    if not model_dir.is_dir():
        raise CardError(
            f"RCNN_MODEL_DIR is {model_dir}, which is not a folder; set it to a folder or unset it"
        )
    return _card_files(model_dir)
