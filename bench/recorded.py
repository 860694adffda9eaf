"""The service with a notebook: `python -m bench.recorded FILE` serves and writes down every batch.

Everything but the notebook is `rcnn serve`: settings, routes, queue, admission.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from app.loading import load
from app.server import serve
from app.settings import Settings


class Recorded:
    """A detector that writes a line for each batch: images, seconds."""

    def __init__(self, detector: Any, notebook: TextIO) -> None:
        self._detector, self._notebook = detector, notebook

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def detect(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> Any:
        """As the detector's own."""
        began = time.perf_counter()
        found = self._detector.detect(jobs, observe)
        self._notebook.write(f"{len(jobs)} {time.perf_counter() - began:.6f}\n")
        return found


def read(notebook: Path, skip: int = 0) -> list[tuple[int, float]]:
    """The batches from line `skip` on: images, seconds."""
    lines = notebook.read_text().splitlines()[skip:]
    return [(int(size), float(seconds)) for size, seconds in map(str.split, lines)]


def main() -> int:
    """Serve with the settings of the environment; the exit code is the program's."""
    settings = Settings()
    with Path(sys.argv[1]).open("w", buffering=1) as notebook:
        return serve(settings, Recorded(load(settings), notebook))


if __name__ == "__main__":
    sys.exit(main())
