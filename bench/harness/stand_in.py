"""A stand-in for the device: it takes measured times and computes nothing, so the cores stay free."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.detections import Detections

Batches = Mapping[int, Sequence[float]]
"""Seconds that batches take, by their size."""


class StandInDetector:
    """A detector that decodes and prepares as its model does, then sleeps as long as a batch takes."""

    def __init__(self, detector: Any, batches: Batches) -> None:
        self._detector, self._batches = detector, batches
        self._draw = random.Random()  # noqa: S311  # times, not secrets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def warm_up(self, cap: int) -> int:
        """The largest batch that was measured."""
        return min(cap, max(self._batches))

    def launch(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> int:
        """Sleep for one of the measured times; the number of images."""
        seconds = self._draw.choice(self._batches[len(jobs)])
        time.sleep(seconds)
        observe("dense", seconds)
        return len(jobs)

    def read(self, launched: int) -> list[Detections]:
        """No detections in any image."""
        return [Detections.empty()] * launched
