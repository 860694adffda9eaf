"""Paths in a dataset: names in any case, splits by any of their usual names."""

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from models.datasets.dataset import NoSplitError
from models.images.suffixes import IMAGE_SUFFIXES

_HIDDEN = (".", "__MACOSX")  # the second is what macOS adds to archives
MAX_DEPTH = 4  # folders in folders; more would be a link to itself
UNSPLIT = ""  # the name of the only split of a dataset without splits
_NUMBER = re.compile(r"[-_. ]?(19|20)\d\d$|[-_. ]?(part|batch|shard|chunk)?[-_. ]?\d+$")
_SYNONYMS = ({"val", "valid", "validation"}, {"train", "training"}, {"test", "testing"})


def files_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of a folder with one of these suffixes (lower case, the files' may be upper), by name."""
    return [path for path in _entries(folder) if path.suffix.lower() in suffixes and path.is_file()]


def is_file(path: Path) -> bool:
    """Whether the path is a file; False also for an impossible or inaccessible name."""
    try:
        return path.is_file()
    except OSError:
        return False


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, by name."""
    return files_in(folder, IMAGE_SUFFIXES)


def files_below(folder: Path, suffixes: Collection[str], depth: int = MAX_DEPTH) -> list[Path]:
    """The files with one of these suffixes in a folder and the folders in it."""
    inner = folders_in(folder) if depth else []
    below = [path for each in inner for path in files_below(each, suffixes, depth - 1)]
    return [*files_in(folder, suffixes), *below]


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, by name."""
    return [path for path in _entries(folder) if path.is_dir()]


def subfolder(folder: Path, name: str) -> Path | None:
    """The folder of this name, in any case."""
    return next((path for path in folders_in(folder) if path.name.lower() == name.lower()), None)


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder by name, without hidden ones (macOS: ._a.xml beside a.xml)."""
    if not folder.is_dir():
        return []
    return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(_HIDDEN)]


def by_stem(paths: Iterable[Path], folder: Path | None = None) -> dict[str, list[Path]]:
    """The files of each stem (a.jpg and a.png have the stem a), with its path below `folder` if given."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        stem = path.stem if folder is None else path.relative_to(folder).with_name(path.stem).as_posix()
        found.setdefault(stem, []).append(path)
    return found


def relative_name(path: Path, root: Path) -> str:
    """The name of a file in a report: relative to the root of the dataset."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a BOM. Raises OSError, UnicodeDecodeError."""
    return path.read_text(encoding="utf-8-sig")


def read_lines(path: Path) -> list[str]:
    """The stripped lines of a text file, without empty ones. Raises as read_text."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def is_split_name(name: str) -> bool:
    """Whether a name is one that splits usually have: train, val2017, test_part2."""
    return any(_plain(name) in names for names in _SYNONYMS)


def _plain(name: str) -> str:
    """The name without a year or the number of a part: train for train2017 and train_part1."""
    return (_NUMBER.sub("", name) or name).lower()


def choose_splits(split: str | None, available: Collection[str], root: Path) -> list[str]:
    """The names among `available` that match a split, all for None; raises NoSplitError."""
    if split is None:
        return list(available)
    same = next((names for names in _SYNONYMS if split.lower() in names), {split.lower()})
    for accepted in ({split}, same):
        found = [name for name in available if name in accepted] or [
            name for name in available if _plain(name) in accepted
        ]
        if found:
            return found
    names = ", ".join(sorted(name for name in available if name != UNSPLIT))
    advice = f"there are: {names}" if names else "the dataset is not split: give no split"
    remedy = "--train-split NAME and --val-split NAME of rcnn train choose others, none is every image"
    raise NoSplitError(f"{root}: there is no split {split!r}; {advice} ({remedy})", tuple(available))
