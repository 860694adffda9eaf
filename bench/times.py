"""Service times in a file, and those of a slower device."""

import json
from pathlib import Path

from bench.fleet import ServiceTimes

TIMES = Path(__file__).parent / "times.json"  # as `bench.simulate --validate --save` wrote them


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
