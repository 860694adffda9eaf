"""The classes of a model, by name (case-insensitive) or by label id."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from models.zoo.cards import UNUSED_LABEL

LONGEST_SHOWN = 60  # characters of an unknown name in the error text


class UnknownClass(ValueError):
    """An unknown class: `token`, shortened for the text; `near`: similar names."""

    def __init__(self, token: str, near: Sequence[str]) -> None:
        self.token, self.near = token, tuple(near)
        super().__init__(f"{token!r} is not a class of the model; it has {', '.join(near)}")


@dataclass(frozen=True)
class Classes:
    """`names`: id to name of every class, without the background and unused ids."""

    names: Mapping[int, str]
    by_name: Mapping[str, int]

    @classmethod
    def of(cls, labels: Sequence[str]) -> "Classes":
        """The classes of a card's labels (index = id)."""
        names = {label: name for label, name in enumerate(labels) if label and name != UNUSED_LABEL}
        return cls(names, {name.casefold(): label for label, name in names.items()})

    def ids(self, tokens: Iterable[str | int]) -> frozenset[int] | None:
        """Ids of the named classes; None, meaning all, if there are no tokens; raises UnknownClass."""
        return frozenset(self._id(str(token)) for token in tokens) or None

    def _id(self, token: str) -> int:
        if (by_name := self.by_name.get(token.casefold())) is not None:
            return by_name
        if token.isascii() and token.isdigit() and len(token) < 10 and int(token) in self.names:
            return int(token)
        shown = token[:LONGEST_SHOWN]
        near = get_close_matches(shown.casefold(), self.by_name, n=3) or list(self.by_name)[:10]
        raise UnknownClass(shown, near)
