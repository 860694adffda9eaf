"""The measuring loop of every benchmark, and the statistics of what it measured."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from app.commands.bench.tally import percentile

__all__ = ["CONFIDENCE", "MedianInterval", "interleaved", "median_interval", "percentile"]

Name = TypeVar("Name", bound=Hashable)
Item = TypeVar("Item")
Result = TypeVar("Result")

CONFIDENCE = 0.95


def interleaved(
    variants: Mapping[Name, Callable[[Item], Result]], items: Iterable[Item]
) -> dict[Name, list[Result]]:
    """Run every variant on each item (an image, or the number of a round) in turn: A B C, A B C, …

    A slow minute of the machine then hits all variants alike.
    """
    results: dict[Name, list[Result]] = {name: [] for name in variants}
    for item in items:
        for name, run in variants.items():
            results[name].append(run(item))
    return results


@dataclass(frozen=True)
class MedianInterval:
    """A median, and the interval that holds the true median with probability `confidence`."""

    median: float
    low: float
    high: float
    confidence: float


def median_interval(values: Sequence[float]) -> MedianInterval:
    """The narrowest pair of order statistics with at least 95 % confidence; the whole range if none has it.

    The true median lies between the k-th smallest and the k-th largest of n independent values with
    probability 1 - 2 P(Binomial(n, 1/2) < k). Seven values: smallest to largest, 98.4 %; second to sixth
    would be 87.5 %.
    """
    ordered, count = sorted(values), len(values)
    rank, confidence = 1, _confidence(count, 1)
    while rank < count / 2 and _confidence(count, rank + 1) >= CONFIDENCE:
        rank, confidence = rank + 1, _confidence(count, rank + 1)
    return MedianInterval(median(ordered), ordered[rank - 1], ordered[-rank], confidence)


def _confidence(count: int, rank: int) -> float:
    below = sum(math.comb(count, smaller) for smaller in range(rank))
    return 1.0 - 2 * below / float(2**count)
