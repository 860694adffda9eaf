"""The folder of captures, bounded in bytes and age: the oldest are deleted first."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock

from app.captures.files import Capture, find_files, read_capture, write_capture

_ID = re.compile(r"\d{8}T\d{9}-[0-9a-f]{8}")


@dataclass(frozen=True)
class Entry:
    """The files of a capture, their bytes, and when it was written (seconds since 1970)."""

    paths: tuple[Path, ...]
    nbytes: int
    written: float


class CaptureStore:
    """The captures of one folder, which no other process writes; its methods are safe on any thread."""

    def __init__(self, folder: Path, max_bytes: int, max_seconds: float) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._entries: dict[str, Entry] = {}  # the oldest first
        self.nbytes = 0  # of all captures
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def open(self) -> None:
        """Make the folder, and take over what an earlier process left there; raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for image, description in find_files(self._folder):
            self._enter(description.stem, (image, description))
        self._delete_incomplete()
        self.sweep()

    def _delete_incomplete(self) -> None:
        """Delete what a process left behind that ended while it wrote or deleted a capture."""
        for path in self._folder.glob("*/*"):
            name = path.name.partition(".")[0]
            if _ID.fullmatch(name) and name not in self._entries:
                path.unlink(missing_ok=True)

    def add(self, capture: Capture, image: bytes) -> None:
        """Write a capture, then delete old ones until the bounds hold; raises OSError."""
        with self._lock:
            paths = write_capture(self._folder / _folder_name(capture.model), capture, image)
            self._enter(capture.id, tuple(paths))
        self.sweep()

    def sweep(self) -> None:
        """Delete what is too old, and the oldest of what is too much; raises OSError."""
        with self._lock:
            oldest_time = time.time() - self._max_seconds
            for name, entry in list(self._entries.items()):
                if self.nbytes <= self._max_bytes and entry.written >= oldest_time:
                    return
                self._delete(name)

    def remove(self, name: str) -> bool:
        """Delete a capture by its id; whether there was one. Raises OSError."""
        with self._lock:
            return self._delete(name)

    def clear(self) -> None:
        """Delete all captures; raises OSError."""
        with self._lock:
            for name in list(self._entries):
                self._delete(name)

    def newest(self, count: int, before: str | None = None) -> Sequence[Capture]:
        """The last captures, the newest first; `before`: only those older than the one of this id."""
        names = sorted(self._entries, reverse=True)
        found = (self.find(name) for name in names if before is None or name < before)
        return list(islice((capture for capture in found if capture is not None), count))

    def find(self, name: str) -> Capture | None:
        """A capture by its id."""
        entry = self._entries.get(name)
        return None if entry is None else read_capture(entry.paths[1])

    def image_path(self, name: str) -> Path | None:
        """Where the image of a capture is."""
        entry = self._entries.get(name)
        return None if entry is None else entry.paths[0]

    def _enter(self, name: str, paths: tuple[Path, ...]) -> None:
        sizes = [path.stat() for path in paths]
        self._entries[name] = entry = Entry(paths, sum(one.st_size for one in sizes), sizes[0].st_mtime)
        self.nbytes += entry.nbytes

    def _delete(self, name: str) -> bool:
        entry = self._entries.get(name)
        for path in entry.paths if entry else ():
            path.unlink(missing_ok=True)
        if entry is not None:
            del self._entries[name]
            self.nbytes -= entry.nbytes
        return entry is not None


def _folder_name(model: str) -> str:
    """The name of a model as the name of a folder."""
    return (
        "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in model).strip(".") or "_"
    )
