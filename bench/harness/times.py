"""Service times in a file, and those of a slower device."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TIMES = Path(__file__).parent / "times.json"  # as `bench.capacity.simulate --validate --save` wrote them


@dataclass(frozen=True)
class ServiceTimes:
    """Measured seconds: of batches by their size, and of all that a request spends outside of them.

    `fresh`: batches that begin on an idle device, while nothing else is decoded. `batches`: those that follow
    another, the turn between both included, and sizes that `fresh` lacks. Each image that is prepared while a
    batch runs makes it `per_arrival` longer, because it needs the same cores.
    """

    batches: Mapping[int, Sequence[float]]
    outside: Sequence[float]
    fresh: Mapping[int, Sequence[float]] = field(default_factory=dict)
    per_arrival: float = 0.0

    @property
    def capacity(self) -> float:
        """Images a second of one device that never waits."""
        per_image = (sum(times) / size / len(times) for size, times in self.batches.items())
        return 1 / (min(per_image) + self.per_arrival)


def write_times(path: Path, times: ServiceTimes, **context: object) -> None:
    """The service times as JSON, with the machine and model that they belong to."""
    rounded = {
        name: {size: [round(one, 5) for one in seconds] for size, seconds in by_size.items()}
        for name, by_size in (("batches", times.batches), ("fresh", times.fresh))
    }
    outside = [round(one, 5) for one in times.outside]
    data = {**context, **rounded, "per_arrival": round(times.per_arrival, 6), "outside": outside}
    path.write_text(json.dumps(data) + "\n")


def read_times(path: Path) -> ServiceTimes:
    """The same, read back; sizes are numbers again."""
    data = json.loads(path.read_text())
    batches, fresh = (
        {int(size): tuple(seconds) for size, seconds in data[name].items()} for name in ("batches", "fresh")
    )
    return ServiceTimes(batches, tuple(data["outside"]), fresh, data.get("per_arrival", 0.0))


def nearest_size(batches: Mapping[int, Sequence[float]], size: int) -> Sequence[float]:
    """Seconds of batches of that size; of a size that was not measured, those of the nearest one, scaled."""
    nearest = min(batches, key=lambda known: (abs(known - size), known))
    return batches[nearest] if nearest == size else [one * size / nearest for one in batches[nearest]]


def slowed_down(times: ServiceTimes, factor: float) -> ServiceTimes:
    """The times of a slower device, with every batch size up to the largest, since any may occur."""
    sizes = range(1, max(times.batches) + 1)
    batches = {size: [one * factor for one in nearest_size(times.batches, size)] for size in sizes}
    return ServiceTimes(batches, times.outside)
