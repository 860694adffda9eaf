"""Names of classes: those that are none, those a model's card can hold, and the user's choice of them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from models.datasets.dataset import BACKGROUND, DataOptionError, DatasetError
from models.datasets.options import ReadOptions
from models.datasets.raw import RawDataset, RawImage

# Names with which publishers mark the background, unused numbers, and areas to ignore.
NO_CLASSES = frozenset({BACKGROUND, "__background__", "_background_", "__ignore__", "N/A"})


def apply_names(raw: RawDataset, options: ReadOptions) -> RawDataset:
    """The dataset with renamed and chosen classes; raises DataOptionError for a name that is not there."""
    renamed = options.renamed
    found = dict.fromkeys([*raw.names, *(str(one.name) for image in raw.images for one in image.objects)])
    _check_known("--rename", renamed, found)
    ids = {renamed.get(name, name): key for name, key in reversed(list(raw.category_ids.items()))}
    raw = replace(raw, category_ids=ids)
    images = [_renamed(image, renamed) for image in raw.images] if renamed else raw.images
    names = tuple(dict.fromkeys(renamed.get(name, name) for name in raw.names))
    names = tuple(name for name in names if name not in NO_CLASSES)
    if not options.classes:
        return replace(raw, images=images, names=names)
    _check_known("--classes", options.classes, dict.fromkeys([*names, *renamed.values()]))
    return _chosen(replace(raw, images=images), options.classes)


def _check_known(option: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise DataOptionError(
                f"{option} names {name!r}, which the data does not have; it has {', '.join(known)}"
            )


def _renamed(image: RawImage, renamed: dict[str, str]) -> RawImage:
    objects = (replace(one, name=renamed.get(str(one.name), one.name)) for one in image.objects)
    return replace(image, objects=tuple(objects))


def _chosen(raw: RawDataset, classes: Sequence[str]) -> RawDataset:
    """The dataset with these classes alone; the objects of others are left out and counted in a note."""
    left = Counter(str(one.name) for image in raw.images for one in image.objects if one.name not in classes)
    images = [
        replace(image, objects=tuple(one for one in image.objects if one.name in classes))
        for image in raw.images
    ]
    counts = ", ".join(f"{name} {count}" for name, count in sorted(left.items()))
    notes = [f"--classes leaves out {left.total()} objects: {counts}"] if left else []
    return replace(raw, names=tuple(dict.fromkeys(classes)), images=images, notes=[*raw.notes, *notes])


def check_names(names: Sequence[str], root: Path) -> None:
    """Raise DatasetError for a class name that no model card can hold, before a training needs it."""
    for number, name in enumerate(names):
        if not name.strip():
            raise DatasetError(f"{root}: class {number} has an empty name; give it one")
        if not _is_utf8(name) or any(_is_control(char) for char in name):
            raise DatasetError(
                f"{root}: the name of class {number}, {name!a}, has a character that is not text "
                "(a control character or half of a surrogate pair); correct it in the annotations"
            )


def _is_control(char: str) -> bool:
    return ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or char in "\u2028\u2029"


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
