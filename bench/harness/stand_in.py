"""A device that takes its time and computes nothing, for what must not depend on how busy the cores are."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from models.detections import Detections

Batches = Mapping[int, Sequence[float]]
"""Seconds that batches take, by their size."""


class StandIn:
    """A detector that decodes and prepares as its model does, then waits as long as a batch takes."""

    def __init__(self, detector: Any, batches: Batches) -> None:
        self._detector, self._batches = detector, batches
        self._draw = random.Random()  # noqa: S311  # times, not secrets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def warm_up(self, cap: int) -> int:
        """The largest batch that was measured."""
        return min(cap, max(self._batches))

    def detect(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> list[Detections]:
        """Nothing, in each of the images, and in good time."""
        seconds = self._draw.choice(self._batches[len(jobs)])
        time.sleep(seconds)
        observe("dense", seconds)
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
        return [Detections(*nothing) for _ in jobs]
