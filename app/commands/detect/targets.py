"""Files about images: NAME.png, NAME.txt and so on in a folder, so that nothing is lost."""

from itertools import chain, count
from pathlib import Path

from app.commands import CommandFailed
from app.commands.detect.inputs import Item


class Targets:
    """Where the file about each item goes: its stem, numbered where another or a source has the place."""

    def __init__(self, folder: Path, suffix: str, taken: frozenset[Path]) -> None:
        self._folder = folder
        self._suffix = suffix
        self._taken = set(taken)
        self._of: dict[tuple[str, str], Path] = {}

    def path(self, item: Item) -> Path:
        """The same for the same item, if it comes again."""
        key = (item.name, item.stem)
        if key not in self._of:
            names = chain([item.stem], (f"{item.stem}-{number}" for number in count(2)))
            paths = (self._folder / f"{name}{self._suffix}" for name in names)
            self._of[key] = next(path for path in paths if path.resolve() not in self._taken)
            self._taken.add(self._of[key].resolve())
        return self._of[key]


def make_folder(option: str, folder: Path) -> Path:
    """The folder, made where it is not there; raises CommandFailed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"{option} {folder}: {error.strerror}; name a folder that can be written"
        raise CommandFailed(text) from error
    return folder
