"""What a loaded model has done so far: images by outcome, batches by size, and the time of each step."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

STEPS = ("decode", "queue", "inference", "postprocess")


@dataclass
class Total:
    """How often something happened, and how many seconds it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count it once more."""
        self.count += 1
        self.seconds += seconds


@dataclass
class Statistics:
    """Of a model since it was loaded; changed on the event loop only.

    `success` and `fail` are images with their whole time; the steps are those of images that succeeded, and
    `inference` of an image is that of its batch. `batches`: by size. `last`: of the last success (epoch).
    """

    success: Total = field(default_factory=Total)
    fail: Total = field(default_factory=Total)
    decode: Total = field(default_factory=Total)
    queue: Total = field(default_factory=Total)
    inference: Total = field(default_factory=Total)
    postprocess: Total = field(default_factory=Total)
    batches: defaultdict[int, Total] = field(default_factory=lambda: defaultdict(Total))
    last: float = 0.0

    @property
    def executions(self) -> int:
        """Batches that gave results."""
        return sum(total.count for total in self.batches.values())

    @property
    def inferences(self) -> int:
        """Images and tiles in those batches."""
        return sum(size * total.count for size, total in self.batches.items())

    @contextmanager
    def failing(self, started: float) -> Iterator[None]:
        """Count an image that gets no result, whatever the reason; `started` is monotonic."""
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self.fail.add(time.monotonic() - started)

    def count_success(self, timings: Mapping[str, float]) -> None:
        """Count an image that got its detections; `timings` are its milliseconds by step, and in `total`."""
        self.last = time.time()
        self.success.add(timings["total"] / 1000)
        for step in STEPS:
            getattr(self, step).add(timings[step] / 1000)
