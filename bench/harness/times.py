"""Service times in a file, and those of a slower device."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TIMES = Path(__file__).parent / "times.json"  # as `bench.capacity.simulate --validate --save` wrote them


@dataclass(frozen=True)
class ServiceTimes:
    """Measured seconds: of batches by their size, and of all that a request spends outside of them.

    `fresh` is of batches that begin on an idle device, where nothing else is being decoded: of the sizes that
    it lacks, and of those that follow another, `batches` says it, the turn from one to the next included.
    Each image that is prepared while a batch runs makes that `per_arrival` longer: it needs the same cores.
    """

    batches: Mapping[int, Sequence[float]]
    outside: Sequence[float]
    fresh: Mapping[int, Sequence[float]] = field(default_factory=dict)
    per_arrival: float = 0.0

    @property
    def capacity(self) -> float:
        """Images a second of one device that never waits."""
        spent = {size: sum(times) / size / len(times) for size, times in self.batches.items()}
        return 1 / (min(spent.values()) + self.per_arrival)


def write_times(path: Path, times: ServiceTimes, everything: dict[str, object]) -> None:
    """The service times as JSON, with what they belong to."""
    rounded: dict[str, object] = {
        name: {size: [round(one, 5) for one in found] for size, found in by_size.items()}
        for name, by_size in (("batches", times.batches), ("fresh", times.fresh))
    }
    rounded["per_arrival"] = round(times.per_arrival, 6)
    rounded["outside"] = [round(one, 5) for one in times.outside]
    path.write_text(json.dumps({**everything, **rounded}) + "\n")


def read_times(path: Path) -> ServiceTimes:
    """The same, read back; sizes are numbers again."""
    found = json.loads(path.read_text())
    batches, fresh = (
        {int(size): tuple(seconds) for size, seconds in found[name].items()} for name in ("batches", "fresh")
    )
    return ServiceTimes(batches, tuple(found["outside"]), fresh, found.get("per_arrival", 0.0))


def stretched(times: ServiceTimes, factor: float) -> ServiceTimes:
    """Of a device that is so many times slower; with every size up to the largest, for any may come."""
    sizes = range(1, max(times.batches) + 1)
    known = {size: min(times.batches, key=lambda one: (abs(one - size), one)) for size in sizes}
    batches = {
        size: [seconds * factor * size / known[size] for seconds in times.batches[known[size]]]
        for size in sizes
    }
    return ServiceTimes(batches, times.outside)
