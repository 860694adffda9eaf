"""The service with a record of its batches: `python -m bench.harness.recorded FILE`.

Everything else is `rcnn serve`: settings, routes, queue, admission. With --stand-in the device takes the
times of that file and computes nothing.
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
from bench.harness.stand_in import StandInDetector
from bench.harness.times import read_times, slowed_down


class RecordingDetector:
    """A detector that writes a line for each batch, in the order of BatchRecord's fields."""

    def __init__(self, detector: Any, record: TextIO) -> None:
        self._detector, self._record = detector, record
        self._ended = time.perf_counter()
        self._prepared = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def prepare(self, image: Any, size: int | None) -> Any:
        """As the detector does; counted."""
        canvas = self._detector.prepare(image, size)
        self._prepared += 1
        return canvas

    @property
    def overlaps(self) -> bool:
        """One batch after the other: the times of two that overlap would not add up."""
        return False

    def launch(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> Any:
        """As the detector does, with the time at which it began."""
        return time.perf_counter(), self._prepared, len(jobs), self._detector.launch(jobs, observe)

    def read(self, launched: Any) -> Any:
        """As the detector does; recorded."""
        started, before, count, batch = launched
        results = self._detector.read(batch)
        idle, self._ended = started - self._ended, time.perf_counter()
        self._record.write(f"{count} {self._ended - started:.6f} {idle:.6f} {self._prepared - before}\n")
        return results


@dataclass(frozen=True)
class BatchRecord:
    """A batch: images, seconds, `idle` seconds of the device before it, `prepared` images while it ran."""

    size: int
    seconds: float
    idle: float
    prepared: int = 0


def read_records(path: Path, skip: int = 0) -> list[BatchRecord]:
    """The batches from line `skip` on."""
    lines = path.read_text().splitlines()[skip:]
    return [
        BatchRecord(int(size), float(seconds), float(idle), int(prepared))
        for size, seconds, idle, prepared in map(str.split, lines)
    ]


def main() -> int:
    """Serve with the settings of the environment; the exit code is the program's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("--stand-in", type=Path, help="service times, as bench.capacity.simulate saved them")
    parser.add_argument("--slower", type=float, default=1, help="factor on those times")
    arguments, settings = parser.parse_args(), Settings()
    detector: Any = load(settings)
    if arguments.stand_in:
        times = slowed_down(read_times(arguments.stand_in), arguments.slower)
        detector = StandInDetector(detector, times.batches)
    with arguments.record.open("w", buffering=1) as record:
        return serve(settings, RecordingDetector(detector, record))


if __name__ == "__main__":
    sys.exit(main())
