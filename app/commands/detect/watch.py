"""New images in folders, told as they arrive. By looking again and again: it works on every file system."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

LOOK_SECONDS = 0.25

Stamp = tuple[int, int]  # of a file: when it was last written to, in ns, and its size


def arrivals(folders: Sequence[Path], find: Callable[[Path], Iterable[Path]]) -> Iterator[Path]:
    """The images that `find` finds below a folder, those there and those that come, without end.

    A file is told when two looks have found it the same, for then it is written to its end; and again when it
    has changed.
    """
    before: dict[Path, Stamp] = {}
    told: dict[Path, Stamp] = {}
    while True:
        now = {path: stamp for folder in folders for path in find(folder) if (stamp := _stamp(path))}
        told = {path: stamp for path, stamp in told.items() if path in now}
        for path in sorted(now):
            if now[path] == before.get(path) != told.get(path):
                told[path] = now[path]
                yield path
        before = now
        time.sleep(LOOK_SECONDS)


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None  # it has gone meanwhile
    return stat.st_mtime_ns, stat.st_size
