"""The recipe of a run, saved beside its model, and whether another may continue it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.datasets import Dataset

RECIPE = "recipe.json"
# What does not change the result; the data are compared by content, wherever they are.
FREE = {"data", "out", "cache_dir", "model_dir", "weights_mirror", "threads", "device", "log", "val_fraction"}
NAMES = {"start": "from"}  # of options, where it is not the recipe's
CONTENT = "content"

Values = dict[str, Any]


class OptionError(ValueError):
    """An option that cannot be used, or that differs from those of the run to be continued."""


def content_of(dataset: Dataset | None) -> Values:
    """The extent of a data set, and a hash of its annotations and of its images' names and sizes."""
    if dataset is None:
        return {"images": 0, "objects": 0, "sha256": ""}
    digest = hashlib.sha256()
    for image in sorted(dataset.images, key=lambda image: str(image.path)):
        shape = (image.path.name, image.path.stat().st_size, image.width, image.height)
        digest.update(json.dumps(shape).encode())
        for array in (image.boxes, image.labels, image.crowd):
            digest.update(array.tobytes())
    return {
        "images": len(dataset.images),
        "objects": dataset.report.objects,
        "sha256": digest.hexdigest(),
    }


def save_recipe(folder: Path, values: Values) -> None:
    """Save the recipe; raises OptionError if `folder` has a run that this recipe does not continue."""
    text = json.dumps(values, indent=2, default=str) + "\n"
    saved = folder / RECIPE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"--out {folder}: {error.strerror}; name a folder that can be written") from error
    if saved.exists() and any(folder.rglob("checkpoint.pt")):
        differences = [*_differences(_read(saved), json.loads(text))]
        if differences:
            raise OptionError(
                f"{folder} holds a run with other options: {'; '.join(differences)}. Repeat it with those of "
                f"{saved.name}, or give another --out"
            )
    write_whole(saved, text)


def write_whole(path: Path, text: str) -> None:
    """Write a text as UTF-8; where that fails, the file stays as it was. Raises OSError."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> Values:
    try:
        values: Values = json.loads(path.read_text(encoding="utf-8"))
        return dict(values)
    except (ValueError, TypeError) as error:
        raise OptionError(
            f"{path} is damaged, so whether this command continues its run is unknown; give another --out"
        ) from error


def _differences(saved: Values, now: Values) -> Iterator[str]:
    """What keeps the saved run from being continued; an option that one of them lacks is none."""
    for name in sorted(saved.keys() & now.keys() - FREE - {"epochs", CONTENT, "labels"}):
        old, new = saved[name], now[name]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(dict(old), dict(new))
        elif old != new:
            yield f"{_option(name)} was {_shown(old)}, is {_shown(new)}"
    yield from _other_epochs(saved, now)
    yield from _other_data(saved, now)


def _option(name: str) -> str:
    return f"--{NAMES.get(name, name).replace('_', '-')}"


def _shown(value: object) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):  # of names
        value = ",".join(value) or None
    elif isinstance(value, list):  # a range, as of the zoom, which is given by its upper end
        value = value[-1]
    return "none" if value is None else json.dumps(value).strip('"')


def _other_epochs(saved: Values, now: Values) -> Iterator[str]:
    old, new = saved.get("epochs", 0), now.get("epochs", 0)
    if new < old:
        yield f"--epochs was {old}, is {new} (it can only be raised)"
    elif new > old and now.get("schedule") == "alternating":
        yield f"--epochs was {old}, is {new} (with --schedule alternating it cannot be changed)"


def _other_data(saved: Values, now: Values) -> Iterator[str]:
    if saved.get("labels", now.get("labels")) != now.get("labels"):
        yield f"the classes were {', '.join(saved['labels'][1:])}, are {', '.join(now['labels'][1:])}"
    before = saved.get(CONTENT) or {}
    for split, new in (now.get(CONTENT) or {}).items():
        old = before.get(split, new)
        if old != new:
            yield (
                f"the {split} images or their annotations differ: {old['images']} images with "
                f"{old['objects']} objects were, {new['images']} with {new['objects']} are"
            )
