"""The files of a COCO dataset: which JSON file belongs to which split, and where the images lie."""

import mmap
from pathlib import Path

from models.datasets.paths import UNSPLIT, files_in, folders_in, subfolder

_PREFIX = "instances_"
_IMAGE_FOLDERS = ("images", "data", "JPEGImages")
USUAL = "_annotations.coco.json"  # beside the images of a split in Roboflow's exports


def find_coco(root: Path) -> dict[str, list[Path]]:
    """The JSON files that may hold COCO annotations, by split: `root` itself, or those in a folder."""
    if root.is_file():
        return {_split_name(root): [root]} if root.suffix.lower() == ".json" else {}
    annotations = subfolder(root, "annotations")
    for folder in (*([annotations] if annotations else []), root):
        files = _candidates(folder)
        if files:
            names = [_split_name(path) for path in files]
            distinct = len(set(names)) == len(names)
            splits = names if distinct else [path.stem for path in files]
            return {split: [path] for split, path in zip(splits, files, strict=True)}
    inner = {folder.name: _of_split(folder) for folder in folders_in(root)}
    return {name: files for name, files in inner.items() if files}


def _of_split(folder: Path) -> list[Path]:
    """The files in a folder of one split, or in annotations/ in it."""
    annotations = subfolder(folder, "annotations")
    return _candidates(folder) or (_candidates(annotations) if annotations else [])


def _candidates(folder: Path) -> list[Path]:
    files = [path for path in files_in(folder, {".json"}) if _mentions_images(path)]
    # captions_train.json and others of the same images may lie beside instances_train.json
    return [path for path in files if path.stem.startswith(_PREFIX)] or files


def _split_name(path: Path) -> str:
    name = path.stem.removesuffix(".coco").removeprefix(_PREFIX).removeprefix("annotations_")
    name = name.removesuffix("_annotations").removeprefix("lvis_v1_")
    return UNSPLIT if name in ("annotations", "labels", "instances") else name


def _mentions_images(path: Path) -> bool:
    """Whether a file may hold annotations; it is not parsed, as it may be broken or very large."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(b'"images"') >= 0


def image_folders(path: Path, split: str) -> list[Path]:
    """Folders of images: beside the file, images/, the split's folder, and the same one level up."""
    folders = []
    for base in (path.parent, path.parent.parent):
        inner = [base, *(found for name in _IMAGE_FOLDERS if (found := subfolder(base, name)))]
        folders += [place for folder in inner for place in (folder / split, folder)]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
