"""The service with a notebook: `python -m bench.recorded FILE` serves and writes down every batch.

Everything but the notebook is `rcnn serve`: settings, routes, queue, admission.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from app.loading import load
from app.server import serve
from app.settings import Settings


class Recorded:
    """A detector that writes a line for each batch: images, seconds, seconds of idleness before it."""

    def __init__(self, detector: Any, notebook: TextIO) -> None:
        self._detector, self._notebook = detector, notebook
        self._ended = time.perf_counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def detect(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> Any:
        """As the detector's own."""
        began = time.perf_counter()
        found = self._detector.detect(jobs, observe)
        idle, self._ended = began - self._ended, time.perf_counter()
        self._notebook.write(f"{len(jobs)} {self._ended - began:.6f} {idle:.6f}\n")
        return found


@dataclass(frozen=True)
class Batch:
    """A line of the notebook: images, seconds, and for how many seconds the device had been idle."""

    size: int
    seconds: float
    idle: float


def read(notebook: Path, skip: int = 0) -> list[Batch]:
    """The batches from line `skip` on."""
    lines = notebook.read_text().splitlines()[skip:]
    return [Batch(int(size), float(seconds), float(idle)) for size, seconds, idle in map(str.split, lines)]


def main() -> int:
    """Serve with the settings of the environment; the exit code is the program's."""
    settings = Settings()
    with Path(sys.argv[1]).open("w", buffering=1) as notebook:
        return serve(settings, Recorded(load(settings), notebook))


if __name__ == "__main__":
    sys.exit(main())
