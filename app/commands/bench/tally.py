"""A load and its answers in numbers: shared by `rcnn bench load` and the benchmarks of the repository."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LoadPlan:
    """The load: `connections` for `seconds`; at `rate` requests a second, or 0 for a closed loop.

    A closed loop ends earlier after `requests` requests, unless that is 0.
    """

    connections: int
    seconds: float
    rate: float = 0.0
    timeout: float = 600.0  # seconds after which a request counts as not answered
    requests: int = 0
    seed: int = 0  # of an open loop's random times; 0: evenly spaced


@dataclass
class Tally:
    """The answers of a load; latencies are of 200s alone, in seconds."""

    latencies: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)  # when those 200s came, from the start
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0

    def add(self, status: int, retry_after: bool, latency: float, finished: float) -> None:
        """Count one request."""
        self.statuses[status] += 1
        if status == 200:
            self.latencies.append(latency)
            self.finished.append(finished)
        elif status == 429 and not retry_after:
            self.without_retry_after += 1


@dataclass(frozen=True)
class LoadResult:
    """A load in numbers: milliseconds of requests answered by 200; everything else as errors by status."""

    images_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    slowest_ms: float
    answered: int
    errors: dict[str, int]
    without_retry_after: int

    @property
    def error_count(self) -> int:
        """Requests that were not answered by 200."""
        return sum(self.errors.values())


def summarize(tally: Tally, plan: LoadPlan) -> LoadResult:
    """The rate counts until the last answer (closed loop), or the answers within the time (open loop)."""
    if plan.rate:
        rate = sum(moment <= plan.seconds for moment in tally.finished) / plan.seconds
    else:
        rate = len(tally.finished) / max(tally.finished, default=math.inf)
    p50, p95, p99, slowest = (percentile(tally.latencies, share) * 1000 for share in (0.5, 0.95, 0.99, 1.0))
    errors = {str(status): count for status, count in sorted(tally.statuses.items()) if status != 200}
    count = len(tally.latencies)
    return LoadResult(rate, p50, p95, p99, slowest, count, errors, tally.without_retry_after)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed; NaN without values."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def even_times(rate: float, seconds: float) -> Iterator[float]:
    """When requests are due at `rate` a second, evenly spaced; at least one."""
    return (index / rate for index in range(max(1, round(rate * seconds))))
