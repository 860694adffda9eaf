"""Output files of images in a folder: NAME.png, NAME.txt and so on, none overwritten."""

from itertools import chain, count
from pathlib import Path

from app.commands.detect.inputs import Item


class Targets:
    """The output path of each item: its stem, with a number where the name is taken."""

    def __init__(self, folder: Path, suffix: str, taken: frozenset[Path]) -> None:
        self._folder = folder
        self._suffix = suffix
        self._taken = set(taken)
        self._paths: dict[tuple[str, str], Path] = {}

    def path(self, item: Item) -> Path:
        """The same path for the same item."""
        key = (item.name, item.stem)
        if key not in self._paths:
            names = chain([item.stem], (f"{item.stem}-{number}" for number in count(2)))
            paths = (self._folder / f"{name}{self._suffix}" for name in names)
            self._paths[key] = next(path for path in paths if path.resolve() not in self._taken)
            self._taken.add(self._paths[key].resolve())
        return self._paths[key]
