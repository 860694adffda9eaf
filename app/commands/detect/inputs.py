"""What `rcnn detect` looks at: files, folders, patterns, stdin, videos, cameras, and folders it watches."""

import glob
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NoReturn

from app.commands import USAGE, CommandFailed
from app.commands.detect.arguments import CAMERA, STDIN, DetectArguments, is_pattern
from app.commands.detect.watch import arrivals
from models.images.decoder import ImageError, Limits
from models.images.frames import Frame, read_camera, read_video

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts")


@dataclass(frozen=True)
class Item:
    """One image to come: its name as typed or found, the stem of files about it, its bytes when asked for.

    `about` is what else is known of it: of a frame its number and its time in seconds.
    """

    name: str
    stem: str
    read: Callable[[], bytes]
    about: Mapping[str, float] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The name for people."""
        return f"{self.name} frame {self.about['frame']}" if self.about else self.name

    @property
    def file_name(self) -> str:
        """The name for the files of annotation tools."""
        return f"{self.stem}.png" if self.about else self.name


@dataclass(frozen=True)
class Sources:
    """All items in order; how many, if known; whether they come when they like; the files among them."""

    items: Iterable[Item]
    total: int | None
    live: bool
    files: frozenset[Path]


def open_sources(arguments: DetectArguments, limits: Limits) -> Sources:
    """What the arguments name, frames within the limits; raises CommandFailed where that is nothing."""
    if arguments.watch:
        folders = _watched(arguments)
        return Sources(map(_file, arrivals(folders, images_below)), None, True, frozenset())
    places = find_places(arguments.images)
    if not places:
        looked = ", ".join(arguments.images)
        raise CommandFailed(f"no image in {looked}; looked for {' '.join(SUFFIXES)}", USAGE)
    single = all(place == STDIN or _is_image(place) for place in places)
    return Sources(
        items=chain.from_iterable(_items(place, arguments.every, limits) for place in places),
        total=len(places) if single else None,
        live=any(CAMERA.fullmatch(place) for place in places),
        files=frozenset(Path(place).resolve() for place in places if place != STDIN),
    )


def find_places(sources: Sequence[str]) -> list[str]:
    """Each file, camera and stdin, once; of folders, at any depth, the files with an image's suffix."""
    return list(dict.fromkeys(chain.from_iterable(_places(source) for source in sources)))


def _places(source: str) -> Iterable[str]:
    path = Path(source)
    if source == STDIN or CAMERA.fullmatch(source):
        return [source]
    if path.is_dir():
        return map(str, sorted(images_below(path)))
    if not path.exists() and is_pattern(source):
        found = sorted(glob.glob(source, recursive=True))
        return [one for one in found if Path(one).suffix.lower() in (*SUFFIXES, *VIDEO_SUFFIXES)]
    return [str(path)]


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files named, and in folders at any depth those with the suffix of an image; each once."""
    return [Path(place) for place in find_places([str(path) for path in paths])]


def images_below(folder: Path) -> Iterable[Path]:
    """The files with an image's suffix in a folder, at any depth."""
    return (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _is_image(place: str) -> bool:
    return not CAMERA.fullmatch(place) and Path(place).suffix.lower() not in VIDEO_SUFFIXES


def _items(place: str, every: int, limits: Limits) -> Iterator[Item]:
    if place == STDIN:
        yield Item(STDIN, "stdin", sys.stdin.buffer.read)
    elif camera := CAMERA.fullmatch(place):
        yield from _frames(place, f"camera-{camera[1]}", read_camera(int(camera[1]), limits, every))
    elif _is_image(place):
        yield _file(Path(place))
    else:
        yield from _frames(place, Path(place).stem, _film(place, limits, every))


def _film(path: str, limits: Limits, every: int) -> Iterator[Frame]:
    with open(path, "rb") as file:
        yield from read_video(file, limits, every)


def _file(path: Path) -> Item:
    return Item(str(path), path.stem, path.read_bytes)


def _frames(name: str, stem: str, frames: Iterator[Frame]) -> Iterator[Item]:
    """An item a frame; where the frames end with an error, one that fails with it."""
    try:
        for frame in frames:
            about = {"frame": frame.index, "seconds": round(frame.seconds or 0.0, 3)}
            yield Item(name, f"{stem}-{frame.index:06d}", frame.png, about)
    except (ImageError, MemoryError, OSError) as error:
        yield Item(name, stem, partial(_fail, error))


def _fail(error: Exception) -> NoReturn:
    raise error


def _watched(arguments: DetectArguments) -> list[Path]:
    folders = [Path(source) for source in arguments.images]
    for folder in folders:
        if not folder.is_dir():
            raise CommandFailed(f"--watch: {folder} is no folder; name folders alone", USAGE)
        if arguments.save and folder.resolve() in (
            arguments.save.resolve(),
            *arguments.save.resolve().parents,
        ):
            text = f"--watch: drawings in {arguments.save} would be detected in again; save them elsewhere"
            raise CommandFailed(text, USAGE)
    return folders
