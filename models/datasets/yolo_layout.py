"""The classes, splits and images of a YOLO dataset, from a YAML file or from the names of folders."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.datasets.dataset import DatasetError
from models.datasets.paths import (
    UNSPLIT,
    files_in,
    folders_in,
    images_in,
    is_file,
    read_lines,
    read_text,
    subfolder,
)

_USUAL = ("data", "dataset")
_SPLITS = ("train", "val", "valid", "validation", "test")
_NAMES_FILES = ("classes.txt", "obj.names")
_IS_CONFIG = re.compile(r"^(names|train)\s*:", re.MULTILINE)
_IS_DARKNET = re.compile(r"^\s*(names|train)\s*=", re.MULTILINE)
NO_LABELS = frozenset({"classes", "predefined_classes", *_SPLITS})  # stems of .txt files that are not labels


@dataclass(frozen=True)
class Layout:
    """The dataset's root; class names by number; the folders and lists of images of each split.

    keypoints: how many each object has, and of how many numbers each (`kpt_shape` of data.yaml).
    """

    root: Path
    names: dict[int, str]
    splits: dict[str, list[Path]]
    keypoints: tuple[int, int] | None = None


def find_yolo(root: Path) -> bool:
    """Whether a folder holds a YOLO dataset, or a file is the YAML of one."""
    if root.is_file():
        return root.suffix.lower() in (".yaml", ".yml")
    return bool(
        _configs(root)
        or _darknet_file(root)
        or _labels_beside(root)
        or any(_labels_beside(f) for f in folders_in(root))
    )


def _labels_beside(folder: Path) -> bool:
    """Whether a folder has images/ and labels/, or images with label files beside them."""
    if subfolder(folder, "images") and subfolder(folder, "labels"):
        return True
    labels = {path.stem for path in files_in(folder, {".txt"})} - NO_LABELS
    return not labels.isdisjoint(path.stem for path in images_in(folder))


def _configs(root: Path) -> list[Path]:
    """The YAML files of a folder that describe a dataset: the one with a usual name, else all."""
    found = [path for path in files_in(root, {".yaml", ".yml"}) if _is_config(path)]
    return [path for path in found if path.stem.lower() in _USUAL][:1] or found


def _is_config(path: Path) -> bool:
    try:
        return bool(_IS_CONFIG.search(read_text(path)))
    except (OSError, UnicodeDecodeError):
        return False


def read_layout(root: Path) -> Layout:
    """Find classes, splits and images; raises DatasetError."""
    configs = [root] if root.is_file() else _configs(root)
    if len(configs) > 1:
        files = ", ".join(path.name for path in configs)
        raise DatasetError(f"{root}: several YAML files describe a dataset: {files}; name one of them")
    if not configs and (darknet := _darknet_file(root)):
        return _darknet_layout(darknet)
    if not configs:
        return Layout(root, _names_from_text(root), _splits_by_folder(root))
    config = _load(configs[0])
    folder = configs[0].parent
    splits = _splits(config, configs[0]) or _splits_by_folder(folder)
    names = _names(config, configs[0]) or _names_from_text(folder)
    return Layout(folder, names, splits, _keypoints(config, configs[0]))


def _keypoints(config: dict[str, Any], path: Path) -> tuple[int, int] | None:
    match config.get("kpt_shape"):
        case None:
            return None
        case [int(count), (2 | 3) as numbers] if count > 0:
            return count, numbers
    raise DatasetError(f"{path}: kpt_shape must be [keypoints, 2 or 3]; it is {config['kpt_shape']!r}")


def _darknet_file(root: Path) -> Path | None:
    """Darknet's list of files, which CVAT writes too: obj.data."""
    found = [path for path in files_in(root, {".data"}) if _IS_DARKNET.search(_text(path))]
    return found[0] if len(found) == 1 else None


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError):
        return ""


def _darknet_layout(path: Path) -> Layout:
    """The layout that lines such as `train = data/train.txt` describe; data/ may be the folder itself."""
    pairs = (line.partition("=") for line in _text(path).splitlines())
    values = {key.strip(): value.strip() for key, equals, value in pairs if equals and value.strip()}
    places = {key: _darknet_place(value, path.parent) for key, value in values.items()}
    splits = {split: [places[split]] for split in _SPLITS if split in places and _exists(places[split])}
    lines = _text(places["names"]).splitlines() if "names" in places else []
    names = {number: line.strip() for number, line in enumerate(lines)}
    return Layout(
        path.parent, names or _names_from_text(path.parent), splits or _splits_by_folder(path.parent)
    )


def _darknet_place(value: str, folder: Path) -> Path:
    place = _place(value, None, folder)
    return place if _exists(place) else folder / value.removeprefix("data/")


def _load(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise DatasetError(f"{path}: needs PyYAML to be read: pip install 'rcnn-serve[train]'") from error
    try:
        config = yaml.safe_load(read_text(path))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DatasetError(f"{path}: not a readable YAML file: {error}") from error
    if not isinstance(config, dict):
        raise DatasetError(f"{path}: it must be a mapping with keys such as names: and train:")
    return config


def _names(config: dict[str, Any], path: Path) -> dict[int, str]:
    match config.get("names"):
        case None:
            return {}
        case list() as names:
            numbered: dict[Any, Any] = dict(enumerate(names))
        case dict() as numbered:
            pass
        case _:
            numbered = {"": ""}
    if not all(
        str(key).isdecimal() and isinstance(name, str | int | float) for key, name in numbered.items()
    ):
        raise DatasetError(f"{path}: names must be a list of class names, or numbers from 0 with their names")
    return {
        int(key): str(name).strip() for key, name in sorted(numbered.items(), key=lambda pair: int(pair[0]))
    }


def _names_from_text(root: Path) -> dict[int, str]:
    """The classes in a text file, one per line, here or (as LabelImg writes it) among the labels."""
    near = folders_in(root)
    folders = [root, *near]
    for folder in near:  # labels/<split>/ and <split>/labels/
        inner = subfolder(folder, "labels")
        folders += folders_in(folder) if folder.name.lower() == "labels" else [inner] if inner else []
    for path in (folder / name for folder in folders for name in _NAMES_FILES):
        if is_file(path):
            try:
                return dict(enumerate(read_lines(path)))
            except (OSError, UnicodeDecodeError) as error:
                raise DatasetError(f"{path}: the class names cannot be read: {error}") from error
    return {}


def _splits(config: dict[str, Any], path: Path) -> dict[str, list[Path]]:
    """The paths that train:, val: and test: name, whether they exist or not."""
    splits: dict[str, list[Path]] = {}
    for split in _SPLITS:
        value = config.get(split)
        entries = value if isinstance(value, list) else [value] if value else []
        if not all(isinstance(entry, str) for entry in entries):
            raise DatasetError(f"{path}: {split} must be the path of a folder or a list of paths")
        if entries:
            splits[split] = [_place(entry, config.get("path"), path.parent) for entry in entries]
    return splits


def _place(entry: str, base: object, folder: Path) -> Path:
    """Resolve a path of the YAML file: relative to its `path`, to the file's folder, or there without "../".

    The last is needed for Roboflow's exports, whose paths are right for one program only.
    """
    entry = entry.replace("\\", "/")
    bases = [folder / base.replace("\\", "/"), folder] if isinstance(base, str) else [folder]
    places = [start / entry for start in bases]
    places.append(folder / re.sub(r"^(\.\./)+", "", entry))
    return next((place for place in places if _exists(place)), places[0])


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _splits_by_folder(root: Path) -> dict[str, list[Path]]:
    """images/<split>, <split>/images or <split>; without splits images/ or the root."""
    whole = subfolder(root, "images") or root
    if whole != root:
        inner = [folder for folder in folders_in(whole) if images_in(folder)]
    else:
        inner = [folder for folder in folders_in(root) if _labels_beside(folder)]
    splits = {folder.name: [subfolder(folder, "images") or folder] for folder in inner}
    return {UNSPLIT: [whole], **splits} if images_in(whole) else splits


def labels_folder(images: Path) -> Path:
    """The folder with the labels of a folder of images: its path with "labels" for "images", or itself."""
    parts = images.parts
    for index in range(len(parts) - 1, -1, -1):
        labels = subfolder(Path(*parts[:index]), "labels") if parts[index].lower() == "images" else None
        if labels and (inner := labels.joinpath(*parts[index + 1 :])).is_dir():
            return inner
        if labels and files_in(labels, {".txt"}):
            return labels
    return images
