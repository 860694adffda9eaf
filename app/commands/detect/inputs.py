"""The inputs of `rcnn detect`: files, folders, patterns, stdin, videos, cameras, and watched folders."""

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
from models.images.suffixes import IMAGE_SUFFIXES, RAW_SUFFIXES
from models.images.video.frames import Frame, read_camera, read_video

SUFFIXES = tuple(sorted(IMAGE_SUFFIXES | RAW_SUFFIXES))
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts")


@dataclass(frozen=True)
class Item:
    """One image: its name as typed or found, the stem of its output files, and what reads its bytes.

    `about` of a frame: its number and its time in seconds.
    """

    name: str
    stem: str
    read: Callable[[], bytes]
    about: Mapping[str, float] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The name in messages."""
        return f"{self.name} frame {self.about['frame']}" if self.about else self.name

    @property
    def file_name(self) -> str:
        """The name in annotation files."""
        return f"{self.stem}.png" if self.about else self.name


@dataclass(frozen=True)
class Inputs:
    """All items in order; how many, if known; whether they come from a camera or a watched folder; files."""

    items: Iterable[Item]
    total: int | None
    live: bool
    files: frozenset[Path]


def open_inputs(arguments: DetectArguments, limits: Limits) -> Inputs:
    """What the arguments name, frames within the limits; raises CommandFailed where there is no image."""
    if arguments.watch:
        folders = _watched(arguments)
        return Inputs(map(_file, arrivals(folders, images_below)), None, True, frozenset())
    names = find_inputs(arguments.images)
    if not names:
        looked = ", ".join(arguments.images)
        raise CommandFailed(f"no image in {looked}; looked for {' '.join(SUFFIXES)}", USAGE)
    single = all(name == STDIN or _is_image(name) for name in names)
    return Inputs(
        items=chain.from_iterable(_items(name, arguments.every, limits) for name in names),
        total=len(names) if single else None,
        live=any(CAMERA.fullmatch(name) for name in names),
        files=frozenset(Path(name).resolve() for name in names if name != STDIN),
    )


def find_inputs(arguments: Sequence[str]) -> list[str]:
    """Each file, camera and stdin, once; of folders, at any depth, the files with an image's suffix."""
    return list(dict.fromkeys(chain.from_iterable(map(_expand, arguments))))


def _expand(argument: str) -> Iterable[str]:
    path = Path(argument)
    if argument == STDIN or CAMERA.fullmatch(argument):
        return [argument]
    if path.is_dir():
        return map(str, sorted(images_below(path)))
    if not path.exists() and is_pattern(argument):
        files = sorted(glob.glob(argument, recursive=True))
        return [file for file in files if Path(file).suffix.lower() in (*SUFFIXES, *VIDEO_SUFFIXES)]
    return [str(path)]


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files named, and in folders at any depth those with the suffix of an image; each once."""
    return [Path(name) for name in find_inputs([str(path) for path in paths])]


def images_below(folder: Path) -> Iterable[Path]:
    """The files with an image's suffix in a folder, at any depth."""
    return (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _is_image(name: str) -> bool:
    return not CAMERA.fullmatch(name) and Path(name).suffix.lower() not in VIDEO_SUFFIXES


def _items(name: str, every: int, limits: Limits) -> Iterator[Item]:
    if name == STDIN:
        yield Item(STDIN, "stdin", sys.stdin.buffer.read)
    elif camera := CAMERA.fullmatch(name):
        yield from _frames(name, f"camera-{camera[1]}", read_camera(int(camera[1]), limits, every))
    elif _is_image(name):
        yield _file(Path(name))
    else:
        yield from _frames(name, Path(name).stem, _video_frames(name, limits, every))


def _video_frames(path: str, limits: Limits, every: int) -> Iterator[Frame]:
    with open(path, "rb") as file:
        yield from read_video(file, limits, every)


def _file(path: Path) -> Item:
    return Item(str(path), path.stem, path.read_bytes)


def _frames(name: str, stem: str, frames: Iterator[Frame]) -> Iterator[Item]:
    """An item for each frame; where reading ends with an error, an item that fails with it."""
    try:
        for frame in frames:
            about = {"frame": frame.index, "seconds": round(frame.seconds or 0.0, 3)}
            yield Item(name, f"{stem}-{frame.index:06d}", frame.png, about)
    except (ImageError, MemoryError, OSError) as error:
        yield Item(name, stem, partial(_fail, error))


def _fail(error: Exception) -> NoReturn:
    raise error


def _watched(arguments: DetectArguments) -> list[Path]:
    folders = [Path(name) for name in arguments.images]
    for folder in folders:
        if not folder.is_dir():
            raise CommandFailed(f"--watch: {folder} is no folder; name only folders", USAGE)
        if arguments.save and folder.resolve() in (
            arguments.save.resolve(),
            *arguments.save.resolve().parents,
        ):
            text = f"--watch: drawings in {arguments.save} would be detected in again; save them elsewhere"
            raise CommandFailed(text, USAGE)
    return folders
