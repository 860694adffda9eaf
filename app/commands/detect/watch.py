"""Watches folders for new images. It polls: that works on every file system."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

POLL_SECONDS = 0.25

Stamp = tuple[int, int]  # of a file: modification time in ns, and size


def arrivals(folders: Sequence[Path], find: Callable[[Path], Iterable[Path]]) -> Iterator[Path]:
    """The images that `find` finds below the folders, now and later, without end.

    A file is yielded when two polls see it unchanged, as it is complete then; and again after a change.
    """
    before: dict[Path, Stamp] = {}
    yielded: dict[Path, Stamp] = {}
    while True:
        now = {path: stamp for folder in folders for path in find(folder) if (stamp := _stamp(path))}
        yielded = {path: stamp for path, stamp in yielded.items() if path in now}
        for path in sorted(now):
            if now[path] == before.get(path) != yielded.get(path):
                yielded[path] = now[path]
                yield path
        before = now
        time.sleep(POLL_SECONDS)


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None  # it was deleted meanwhile
    return stat.st_mtime_ns, stat.st_size
