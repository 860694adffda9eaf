"""The service with a notebook: `python -m bench.harness.recorded FILE` serves and writes down every batch.

Everything but the notebook is `rcnn serve`: settings, routes, queue, admission. With --stand-in the device
takes the times of that file and computes nothing.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from app.server import serve
from app.serving.loading import load
from app.settings.settings import Settings
from bench.harness.stand_in import StandIn
from bench.harness.times import read_times, stretched


class Recorded:
    """A detector that writes a line for each batch.

    Images, seconds, seconds of idleness before it, and how many images were prepared while it ran.
    """

    def __init__(self, detector: Any, notebook: TextIO) -> None:
        self._detector, self._notebook = detector, notebook
        self._ended = time.perf_counter()
        self._prepared = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def prepare(self, image: Any, size: int | None) -> Any:
        """As the detector's own."""
        canvas = self._detector.prepare(image, size)
        self._prepared += 1
        return canvas

    def detect(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> Any:
        """As the detector's own."""
        began, before = time.perf_counter(), self._prepared
        found = self._detector.detect(jobs, observe)
        idle, self._ended = began - self._ended, time.perf_counter()
        self._notebook.write(f"{len(jobs)} {self._ended - began:.6f} {idle:.6f} {self._prepared - before}\n")
        return found


@dataclass(frozen=True)
class Batch:
    """A line of the notebook: `idle` are the seconds before it, `prepared` the images prepared meanwhile."""

    size: int
    seconds: float
    idle: float
    prepared: int = 0


def read(notebook: Path, skip: int = 0) -> list[Batch]:
    """The batches from line `skip` on."""
    lines = notebook.read_text().splitlines()[skip:]
    return [
        Batch(int(size), float(seconds), float(idle), int(prepared))
        for size, seconds, idle, prepared in map(str.split, lines)
    ]


def main() -> int:
    """Serve with the settings of the environment; the exit code is the program's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--stand-in", type=Path, help="service times, as bench.capacity.simulate saved them")
    parser.add_argument("--slower", type=float, default=1, help="times as slow as those")
    given, settings = parser.parse_args(), Settings()
    detector: Any = load(settings)
    if given.stand_in:
        detector = StandIn(detector, stretched(read_times(given.stand_in), given.slower).batches)
    with given.notebook.open("w", buffering=1) as notebook:
        return serve(settings, Recorded(detector, notebook))


if __name__ == "__main__":
    sys.exit(main())
