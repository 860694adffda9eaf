"""When requests are due: at fixed times, at random, over a day, in a flash crowd. Seconds from the start."""

import math
import random
from collections.abc import Callable, Iterator

DAY_SWING = 0.6  # a day's rate goes from 0.4 to 1.6 of its mean
CROWD_FACTOR = 4.0  # a flash crowd against the rate before it
CROWD_BEGINS, CROWD_RISE, CROWD_ENDS = 0.25, 0.01, 0.65  # shares of the whole time


def due_times(rate: float, seconds: float, seed: int = 0) -> Iterator[float]:
    """Requests at `rate` a second: evenly where `seed` is 0, else a Poisson process that it draws."""
    if seed:
        yield from varying(lambda _: rate, rate, seconds, seed)
    else:
        yield from (index / rate for index in range(max(1, round(rate * seconds))))


def varying(rate: Callable[[float], float], most: float, seconds: float, seed: int) -> Iterator[float]:
    """A Poisson process whose rate changes and is `most` at its highest, by thinning."""
    draw = random.Random(seed)  # noqa: S311  # a load, not a secret
    moment = draw.expovariate(most)
    while moment < seconds:
        if draw.random() * most <= rate(moment):
            yield moment
        moment += draw.expovariate(most)


def day(mean: float, seconds: float) -> Callable[[float], float]:
    """The rate over a day that lasts so many seconds, lowest at both ends."""
    return lambda moment: mean * (1 - DAY_SWING * math.cos(2 * math.pi * moment / seconds))


def crowd(before: float, seconds: float) -> Callable[[float], float]:
    """The rate with a crowd that comes within a hundredth of the time and goes at once."""

    def rate(moment: float) -> float:
        share = moment / seconds
        if share >= CROWD_ENDS:
            return before
        risen = min(1.0, max(0.0, (share - CROWD_BEGINS) / CROWD_RISE))
        return before * (1 + (CROWD_FACTOR - 1) * risen)

    return rate
