"""Reader of Pascal VOC's format: an XML file per image, in Annotations/ or beside the images.

Coordinates are used as they are written: corners in pixels from 0, as LabelImg, CVAT and most tools write
them (LabelImg with 1 for 0). The VOC challenge counted pixels from 1 and included the last: in its own files
(<source><annotation>PASCAL VOC2007) 1 is subtracted from xmin and ymin, as in Detectron2.
`difficult` objects count as crowd: as in VOC's own protocol they need not be detected.

The image is the one with the name of the XML file. `filename` is used only if there is none, as it is wrong
after files are renamed; `path` is never used, as it names a folder of another machine.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from models.datasets.dataset import DatasetError
from models.datasets.faults import Fault
from models.datasets.layout.voc_files import Index, XmlFolder, find_voc, index
from models.datasets.layout.xml_files import PARSE_ERRORS, parse_xml
from models.datasets.paths import choose_splits, is_split_name, read_lines, relative_name
from models.datasets.raw import Box, RawDataset, RawImage, RawObject
from models.images.suffixes import IMAGE_SUFFIXES

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_FLAG = re.compile(r"\s+(-1|0|1)$")  # lists of one class mark each image with -1, 0 or 1


def read_voc(root: Path, split: str | None) -> RawDataset:
    """Read the images of a split, its classes in alphabetical order; raises DatasetError."""
    folders = find_voc(root)
    if not folders:
        raise DatasetError(
            f"{root}: no Pascal VOC annotations; looked for .xml files in Annotations/, here, and in a "
            "folder a split"
        )
    faults: list[Fault] = []
    images = list(_read_split(root, folders, split, faults) if split else _read_whole(root, folders, faults))
    names = {str(found.name) for image in images for found in image.objects}
    return RawDataset(tuple(sorted(names)), images, faults, order="xyxy")


def _read_whole(root: Path, folders: list[XmlFolder], faults: list[Fault]) -> Iterator[RawImage]:
    for folder in folders:
        yield from _read_all(index(root, folder), faults)


def _read_split(root: Path, folders: list[XmlFolder], split: str, faults: list[Fault]) -> Iterator[RawImage]:
    parts: dict[str, list[tuple[XmlFolder, Path | None]]] = {}
    for folder in folders:
        lists: dict[str, Path | None] = {}
        if not is_split_name(folder.split):
            lists.update(folder.lists)
        for name, path in (lists or {folder.split: None}).items():
            parts.setdefault(name, []).append((folder, path))
    for name in choose_splits(split, parts, root):
        for folder, listed in parts[name]:
            found = index(root, folder)
            yield from _read_listed(listed, found, faults) if listed else _read_all(found, faults)


def _read_all(folder: Index, faults: list[Fault]) -> list[RawImage]:
    """The images of all annotations; an image without an annotation is a fault."""
    images = [
        image for stem in folder.annotations if (image := _read_image(folder, stem, faults)) is not None
    ]
    used = {image.path for image in images}
    for stem, found in folder.images.items():
        if stem not in folder.annotations and used.isdisjoint(found):
            _read_image(folder, stem, faults)
    return images


def _read_listed(path: Path, folder: Index, faults: list[Fault]) -> list[RawImage]:
    stems = _listed(path, folder)
    return [image for stem in stems if (image := _read_image(folder, stem, faults)) is not None]


def _listed(path: Path, folder: Index) -> list[str]:
    """The stems in a list; a line may also be a file's name or path, or end with a class's flag."""
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: the list of a split cannot be read: {error}") from error
    return list(dict.fromkeys(_stem(line, folder) for line in lines))


def _stem(line: str, folder: Index) -> str:
    spellings = (line, _without_suffix(line), _FLAG.sub("", line), folder.stem(_without_suffix(line)))
    for stem in spellings:
        if stem in folder.annotations or stem in folder.images:
            return stem
    return line


def _without_suffix(line: str) -> str:
    path = PurePosixPath(line.replace("\\", "/"))
    has_suffix = path.suffix.lower() in {*IMAGE_SUFFIXES, ".xml"}
    return (path.with_suffix("") if has_suffix else path).as_posix()


def _read_image(folder: Index, stem: str, faults: list[Fault]) -> RawImage | None:
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
    except PARSE_ERRORS as error:
        faults.append(Fault("unreadable_annotation", where, f"{error}"))
        return None
    objects = _objects(tree, where, faults)
    file = _image_path(tree, path, stem, folder)
    return RawImage(where, file, objects, _stated_size(tree), counts_from_one=_counts_from_one(tree))


def _parse(path: Path) -> ElementTree.Element:
    tree = parse_xml(path)
    if tree.tag.lower() != "annotation":
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


def _image_path(tree: ElementTree.Element, path: Path, stem: str, folder: Index) -> Path:
    """The path of an annotation's image; the expected path if there is no file."""
    name = PurePosixPath((tree.findtext("filename") or "").strip().replace("\\", "/")).name
    inside = PurePosixPath(stem).parent
    for known in (stem, (inside / PurePosixPath(name).stem).as_posix(), (inside / name).as_posix()):
        if found := folder.image(known):
            return next((image for image in found if image.name == name), found[0])
    return path.parent / (name or f"{path.stem}.jpg")
