"""The files of a Pascal VOC dataset: XML in Annotations/, beside the images, or in a folder per split.

Both may lie in folders of their own (Annotations/cam1/a.xml and JPEGImages/cam1/a.jpg). The root may be a
VOCdevkit, with a folder per year, or hold images/train/ and images/test/ with XML and images together.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from models.datasets.paths import (
    UNSPLIT,
    by_stem,
    files_below,
    files_in,
    folders_in,
    is_split_name,
    subfolder,
)
from models.images.suffixes import IMAGE_SUFFIXES

_XML = frozenset({".xml"})
_IMAGE_FOLDERS = ("JPEGImages", "images")
_HEAD = 2**12  # bytes in which the root element begins


@dataclass(frozen=True)
class XmlFolder:
    """A folder of XML files of a split, and the folder that also holds the images and lists of it."""

    home: Path
    folder: Path
    split: str

    @property
    def lists(self) -> dict[str, Path]:
        """The lists of images in ImageSets/Main/ (or ImageSets/) by split."""
        sets = subfolder(self.home, "imagesets")
        main = (subfolder(sets, "main") or sets) if sets else None
        return {path.stem: path for path in files_in(main, {".txt"})} if main else {}


def find_voc(root: Path) -> list[XmlFolder]:
    """The folders with Pascal VOC's XML; none if there are none."""
    if not root.is_dir():
        return []
    if own := _own(root, UNSPLIT):
        return own
    found = [one for folder in folders_in(root) for one in _own(folder, folder.name)]
    images = subfolder(root, "images")
    if found or not images:
        return found
    return [one for folder in folders_in(images) for one in _own(folder, folder.name)]


def _own(home: Path, split: str) -> list[XmlFolder]:
    annotations = subfolder(home, "annotations")
    if annotations:
        annotations = subfolder(annotations, "xmls") or annotations
        inner = [folder for folder in folders_in(annotations) if files_below(folder, _XML)]
        if inner and not files_in(annotations, _XML) and all(is_split_name(folder.name) for folder in inner):
            return [XmlFolder(home, folder, folder.name) for folder in inner]
        if _is_voc(files_below(annotations, _XML)):
            return [XmlFolder(home, annotations, split)]
    return [XmlFolder(home, home, split)] if _is_voc(files_in(home, _XML)) else []


def _is_voc(paths: list[Path]) -> bool:
    """Whether there are XML files other than CVAT's, which has one file for many images."""
    return any(b"<annotations" not in _head(path) for path in paths[:3])


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


@dataclass(frozen=True)
class Index:
    """XML files and images by their paths below their folders, without suffix; root: for reports."""

    root: Path
    annotations: dict[str, list[Path]]
    images: dict[str, list[Path]]
    bare: dict[str, list[Path]]

    @cached_property
    def _annotations_are_flat(self) -> bool:
        return all("/" not in stem for stem in self.annotations)

    @cached_property
    def _images_are_flat(self) -> bool:
        return all("/" not in stem for stem in self.images)

    @cached_property
    def _annotated(self) -> Counter[str]:
        """How many XML files have each bare name."""
        return Counter(PurePosixPath(stem).name for stem in self.annotations)

    def image(self, stem: str) -> list[Path]:
        """The images of an XML file. In flat folders on one side the folders of the other say nothing."""
        if found := self.images.get(stem):
            return found
        name = PurePosixPath(stem).name
        if not (self._images_are_flat if "/" in stem else self._annotations_are_flat):
            return []
        found = self.bare.get(name, [])
        return found if self._annotated[name] <= 1 and len({path.parent for path in found}) == 1 else []

    def stem(self, line: str) -> str:
        """The stem that a line without suffix means: its folders count unless all XML lies in one."""
        return PurePosixPath(line).name if self._annotations_are_flat else line


def index(root: Path, xml: XmlFolder) -> Index:
    """The XML files of a folder and the images that they may describe."""
    annotations = by_stem(_files(xml, xml.folder, _XML), xml.folder)
    images: dict[str, list[Path]] = {}
    for place in dict.fromkeys(_image_places(xml)):
        for stem, paths in by_stem(_files(xml, place, IMAGE_SUFFIXES), place).items():
            images.setdefault(stem, []).extend(paths)
    bare = by_stem(path for paths in images.values() for path in paths)
    return Index(root, annotations, images, bare)


def _files(xml: XmlFolder, folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Below a folder; only in it if it is the home, whose other folders are not of images or XML alone."""
    return files_in(folder, suffixes) if folder == xml.home else files_below(folder, suffixes)


def _image_places(xml: XmlFolder) -> Iterator[Path]:
    yield xml.folder
    apart = [found for name in _IMAGE_FOLDERS if (found := subfolder(xml.home, name))]
    if xml.folder == xml.home:
        yield from apart
        return
    for folder in apart or [xml.home]:
        of_split = subfolder(folder, xml.folder.name) if is_split_name(xml.folder.name) else None
        yield of_split or folder
