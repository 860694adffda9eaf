"""The image files that annotations name, by paths that may be of another machine.

A path is taken at its word: an image of the same bare name elsewhere is another image. Folders are ignored
only where they say nothing: those that all names begin with, if none of the files is there under its own.
"""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from models.datasets.paths import is_file


def bind(names: Sequence[str], folders: Sequence[Path]) -> list[Path]:
    """The path of each name in one of the folders; the expected path where there is no file."""
    names = [_native(name) for name in names]
    portable = [name.replace("\\", "/") for name in names]
    found = [_find((name, plain), folders) for name, plain in zip(names, portable, strict=True)]
    if not any(path for path, plain in zip(found, portable, strict=True) if "/" in plain):
        for depth in range(1, _common_depth(portable) + 1):
            further = [_find((_without(depth, plain),), folders) for plain in portable]
            if any(further):
                found = [path or more for path, more in zip(found, further, strict=True)]
                break
    return [path or folders[0] / plain.lstrip("/") for path, plain in zip(found, portable, strict=True)]


def _native(name: str) -> str:
    """The name as the system's functions take it, also in a locale without UTF-8."""
    try:
        os.fsencode(name)
        return name
    except UnicodeEncodeError:
        return os.fsdecode(name.encode("utf-8", "surrogatepass"))


def _common_depth(names: Sequence[str]) -> int:
    """The number of folders with which every name begins."""
    parents = [PurePosixPath(name).parts[:-1] for name in names]
    depth = 0
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1:
            break
        depth += 1
    return depth


def _without(depth: int, name: str) -> str:
    return "/".join(PurePosixPath(name).parts[depth:])


def _find(spellings: Sequence[str], folders: Sequence[Path]) -> Path | None:
    """The first file with one of the spellings, or with the other case of its suffix."""
    for spelled in dict.fromkeys((*spellings, *map(_with_other_suffix, spellings))):
        for folder in folders:
            for inner in _inside(spelled, folder):
                if is_file(folder / inner):
                    return folder / inner
    return None


def _inside(name: str, folder: Path) -> list[str]:
    """The name, and what remains of it after folders that the path of `folder` ends with."""
    parts = PurePosixPath(name).parts
    if not parts:
        return []
    home = tuple(part.lower() for part in folder.parts)
    inner = [
        "/".join(parts[count:])
        for count in range(1, len(parts))
        if home[-count:] == tuple(part.lower() for part in parts[:count])
    ]
    return [name, *inner]


def _with_other_suffix(name: str) -> str:
    """The name with .JPG for .jpg and vice versa, which are the same on some systems."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}{dot}{suffix.swapcase()}"
