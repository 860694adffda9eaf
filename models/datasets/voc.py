"""Pascal VOC's format: a file of XML for each image, in Annotations/ or beside the images.

Coordinates are taken as they are written: corners in pixels from 0. LabelImg, CVAT and most tools write them
so (LabelImg with 1 for 0). The VOC challenge itself counted pixels from 1 and included the last: in files
that say they are of it (<source><annotation>PASCAL VOC2007) 1 is taken from xmin and ymin, as in Detectron2.
`difficult` objects are kept as crowd: as in VOC's own protocol they need not be found.

The image is the one with the name of the XML file. `filename` is asked where there is none, since it goes
stale when files are renamed; `path` never, since it names a folder of somebody else's machine.
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
    WHOLE,
    by_stem,
    choose_splits,
    files_in,
    folders_in,
    images_in,
    named,
    read_lines,
    subfolder,
)
from models.datasets.raw import Box, RawImage, RawObject, Source

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IMAGE_FOLDERS = ("JPEGImages", "images")
_FLAG = re.compile(r"\s+(-1|0|1)$")  # lists of one class name each image with whether the class is in it


@dataclass(frozen=True)
class _Folder:
    """XML files and the images that they may be of, by their stems; root: of the dataset, for reports."""

    root: Path
    annotations: dict[str, list[Path]]
    images: dict[str, list[Path]]


def find_voc(root: Path) -> bool:
    """Whether a folder holds Pascal VOC annotations."""
    return root.is_dir() and bool(_annotation_folders(root))


def _annotation_folders(root: Path) -> dict[str, Path]:
    """The folders with XML files by split: Annotations/, or the root itself, or a folder for each split."""
    places = (subfolder(root, "annotations"), root)
    for folder in places:
        if folder and files_in(folder, {".xml"}):
            return {WHOLE: folder}
    return {folder.name: folder for folder in folders_in(root) if files_in(folder, {".xml"})}


def read_voc(root: Path, split: str | None) -> Source:
    """Read the images of a split, its classes in alphabetical order; raises DatasetError."""
    folders = _annotation_folders(root) if root.is_dir() else {}
    if not folders:
        raise DatasetError(
            f"{root}: no Pascal VOC annotations; looked for .xml files in Annotations/, here, and in a "
            "folder a split"
        )
    images: list[RawImage] = []
    faults: list[Fault] = []
    lists = _lists(root) if WHOLE in folders else {}
    if split is not None and lists:
        folder = _index(root, folders[WHOLE])
        for name in choose_splits(split, lists, root):
            images += _read_listed(lists[name], folder, faults)
    else:
        for name in choose_splits(split, folders, root):
            images += _read_all(_index(root, folders[name]), faults)
    names = {str(found.name) for image in images for found in image.objects}
    return Source(tuple(sorted(names - {BACKGROUND})), images, faults)


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
    """The images of all annotations; an image that is left over is a fault."""
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
    """The stems in a list; a line may also be a file's name or path, or have a class's flag behind it."""
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
        where = named(found[0], folder.root) if found else stem
        faults.append(Fault("missing_annotation", where, detail))
        return None
    path = folder.annotations[stem][0]
    where = named(path, folder.root)
    try:
        tree = _parse(path)
    except (OSError, ValueError, LookupError, ElementTree.ParseError) as error:
        faults.append(Fault("unreadable_annotation", where, f"{error}"))
        return None
    objects = _objects(tree, where, faults)
    return RawImage(where, _image_path(tree, path, folder), objects, _claimed(tree))


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Builds a tree, and refuses a document type: entities can blow up a small file to gigabytes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type (<!DOCTYPE …>), which no annotation needs; remove it")


def _parse(path: Path) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_WithoutDoctype())  # noqa: S314  # without entities nothing blows up
    parser.feed(path.read_bytes())
    tree = parser.close()
    if not isinstance(tree, ElementTree.Element) or tree.tag.lower() != "annotation":
        raise ValueError("its outermost element is not <annotation>: not Pascal VOC's format")
    return tree


def _objects(tree: ElementTree.Element, where: str, faults: list[Fault]) -> tuple[RawObject, ...]:
    """The objects, of which parts (heads and hands in VOC) are none; one without a box is a fault."""
    first = 1.0 if _counts_from_one(tree) else 0.0
    objects = []
    for number, found in enumerate(tree.findall("object"), start=1):
        place = f"{where} object {number}"
        name, box = (found.findtext("name") or "").strip(), _box(found, first)
        if name and box:
            objects.append(RawObject(place, box, name, (found.findtext("difficult") or "").strip() == "1"))
        else:
            detail = f"it has no name and bndbox of {', '.join(_CORNERS)} (numbers)"
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


def _claimed(tree: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(float(tree.findtext(f"size/{side}") or "")) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return width, height


def _image_path(tree: ElementTree.Element, path: Path, folder: _Folder) -> Path:
    """The image of an annotation; where it should lie if there is none."""
    name = PurePosixPath((tree.findtext("filename") or "").strip().replace("\\", "/")).name
    for stem in (path.stem, PurePosixPath(name).stem, name):
        found = folder.images.get(stem, [])
        if found:
            return next((image for image in found if image.name == name), found[0])
    return path.parent / (name or f"{path.stem}.jpg")
