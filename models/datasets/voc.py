"""Reader of Pascal VOC's format: an XML file per image, in Annotations/ or beside the images.

Coordinates are used as they are written: corners in pixels from 0, as LabelImg, CVAT and most tools write
them (LabelImg with 1 for 0). The VOC challenge counted pixels from 1 and included the last: in its own files
(<source><annotation>PASCAL VOC2007) 1 is subtracted from xmin and ymin, as in Detectron2.
`difficult` objects count as crowd: as in VOC's own protocol they need not be detected.

The image is the one with the name of the XML file. `filename` is used only if there is none, as it is wrong
after files are renamed; `path` is never used, as it names a folder of another machine.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from models.datasets.dataset import BACKGROUND, DatasetError
from models.datasets.faults import Fault
from models.datasets.paths import (
    IMAGE_SUFFIXES,
    UNSPLIT,
    by_stem,
    choose_splits,
    files_in,
    folders_in,
    images_in,
    read_lines,
    relative_name,
    subfolder,
)
from models.datasets.raw import Box, RawDataset, RawImage, RawObject

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IMAGE_FOLDERS = ("JPEGImages", "images")
_FLAG = re.compile(r"\s+(-1|0|1)$")  # lists of one class mark each image with -1, 0 or 1


@dataclass(frozen=True)
class _Folder:
    """XML files and the images they may describe, by their stems; root: of the dataset, for reports."""

    root: Path
    annotations: dict[str, list[Path]]
    images: dict[str, list[Path]]


def find_voc(root: Path) -> bool:
    """Whether a folder holds Pascal VOC annotations."""
    return root.is_dir() and bool(_annotation_folders(root))


def _annotation_folders(root: Path) -> dict[str, Path]:
    """The folders with XML files by split: Annotations/, the root itself, or a folder per split."""
    places = (subfolder(root, "annotations"), root)
    for folder in places:
        if folder and files_in(folder, {".xml"}):
            return {UNSPLIT: folder}
    return {folder.name: folder for folder in folders_in(root) if files_in(folder, {".xml"})}


def read_voc(root: Path, split: str | None) -> RawDataset:
    """Read the images of a split, its classes in alphabetical order; raises DatasetError."""
    folders = _annotation_folders(root) if root.is_dir() else {}
    if not folders:
        raise DatasetError(
            f"{root}: no Pascal VOC annotations; looked for .xml files in Annotations/, here, and in a "
            "folder a split"
        )
    images: list[RawImage] = []
    faults: list[Fault] = []
    lists = _lists(root) if UNSPLIT in folders else {}
    if split is not None and lists:
        folder = _index(root, folders[UNSPLIT])
        for name in choose_splits(split, lists, root):
            images += _read_listed(lists[name], folder, faults)
    else:
        for name in choose_splits(split, folders, root):
            images += _read_all(_index(root, folders[name]), faults)
    names = {str(found.name) for image in images for found in image.objects}
    return RawDataset(tuple(sorted(names - {BACKGROUND})), images, faults)


def _lists(root: Path) -> dict[str, Path]:
    """The lists of images in ImageSets/Main/ (or ImageSets/) by split."""
    sets = subfolder(root, "imagesets")
    main = (subfolder(sets, "main") or sets) if sets else None
    return {path.stem: path for path in files_in(main, {".txt"})} if main else {}


def _index(root: Path, folder: Path) -> _Folder:
    apart = [found for name in _IMAGE_FOLDERS if (found := subfolder(root, name))]
    places = dict.fromkeys([folder, *(apart or [root] if folder.name.lower() == "annotations" else apart)])
    images = [path for place in places for path in images_in(place)]
    return _Folder(root, by_stem(files_in(folder, {".xml"})), by_stem(images))


def _read_all(folder: _Folder, faults: list[Fault]) -> list[RawImage]:
    """The images of all annotations; an image without an annotation is a fault."""
    images = [
        image for stem in folder.annotations if (image := _read_image(folder, stem, faults)) is not None
    ]
    used = {image.path for image in images}
    for stem, found in folder.images.items():
        if stem not in folder.annotations and used.isdisjoint(found):
            _read_image(folder, stem, faults)
    return images


def _read_listed(path: Path, folder: _Folder, faults: list[Fault]) -> list[RawImage]:
    stems = _listed(path, folder)
    return [image for stem in stems if (image := _read_image(folder, stem, faults)) is not None]


def _listed(path: Path, folder: _Folder) -> list[str]:
    """The stems in a list; a line may also be a file's name or path, or end with a class's flag."""
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: the list of a split cannot be read: {error}") from error
    return list(dict.fromkeys(_stem(line, folder) for line in lines))


def _stem(line: str, folder: _Folder) -> str:
    spellings: tuple[Callable[[str], str], ...] = (str, _without_suffix, _without_flag)
    for spell in spellings:
        stem = spell(line)
        if stem in folder.annotations or stem in folder.images:
            return stem
    return line


def _without_suffix(line: str) -> str:
    path = PurePosixPath(line.replace("\\", "/"))
    return path.stem if path.suffix.lower() in {*IMAGE_SUFFIXES, ".xml"} else path.name


def _without_flag(line: str) -> str:
    return _FLAG.sub("", line)


def _read_image(folder: _Folder, stem: str, faults: list[Fault]) -> RawImage | None:
    """The image of a stem with its objects, or None and a fault."""
    if stem not in folder.annotations:
        found = folder.images.get(stem)
        detail = f"no {stem}.xml for it" if found else f"neither {stem}.xml nor an image of this name"
        where = relative_name(found[0], folder.root) if found else stem
        faults.append(Fault("missing_annotation", where, detail))
        return None
    path = folder.annotations[stem][0]
    where = relative_name(path, folder.root)
    try:
        tree = _parse(path)
    except (OSError, ValueError, LookupError, ElementTree.ParseError) as error:
        faults.append(Fault("unreadable_annotation", where, f"{error}"))
        return None
    objects = _objects(tree, where, faults)
    file = _image_path(tree, path, folder)
    return RawImage(where, file, objects, _stated_size(tree), counts_from_one=_counts_from_one(tree))


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Builds a tree, and rejects a document type: entities can expand a small file to gigabytes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type (<!DOCTYPE …>), which annotations do not need; remove it")


def _parse(path: Path) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_WithoutDoctype())  # noqa: S314  # entities are rejected
    parser.feed(path.read_bytes())
    tree = parser.close()
    if not isinstance(tree, ElementTree.Element) or tree.tag.lower() != "annotation":
        raise ValueError("its root element is not <annotation>: not Pascal VOC's format")
    return tree


def _objects(tree: ElementTree.Element, where: str, faults: list[Fault]) -> tuple[RawObject, ...]:
    """The objects, without their parts (heads and hands in VOC); one without a name or box is a fault."""
    first = 1.0 if _counts_from_one(tree) else 0.0
    objects = []
    for number, found in enumerate(tree.findall("object"), start=1):
        place = f"{where} object {number}"
        name, box = (found.findtext("name") or "").strip(), _box(found, first)
        if name and box:
            difficult = (found.findtext("difficult") or "").strip() == "1"
            objects.append(RawObject(place, box, name, difficult, difficult))
        else:
            detail = f"it needs a name and a bndbox of {', '.join(_CORNERS)} (numbers)"
            faults.append(Fault("unreadable_annotation", place, detail))
    return tuple(objects)


def _counts_from_one(tree: ElementTree.Element) -> bool:
    return (tree.findtext("source/annotation") or "").strip().upper().startswith("PASCAL VOC")


def _box(found: ElementTree.Element, first: float) -> Box | None:
    try:
        x1, y1, x2, y2 = (float(found.findtext(f"bndbox/{corner}") or "") for corner in _CORNERS)
    except ValueError:
        return None
    return x1 - first, y1 - first, x2, y2


def _stated_size(tree: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(float(tree.findtext(f"size/{side}") or "")) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return width, height


def _image_path(tree: ElementTree.Element, path: Path, folder: _Folder) -> Path:
    """The path of an annotation's image; the expected path if there is no file."""
    name = PurePosixPath((tree.findtext("filename") or "").strip().replace("\\", "/")).name
    for stem in (path.stem, PurePosixPath(name).stem, name):
        found = folder.images.get(stem, [])
        if found:
            return next((image for image in found if image.name == name), found[0])
    return path.parent / (name or f"{path.stem}.jpg")
