"""When requests are due: at fixed times, at random, over a day, in a flash crowd. Seconds from the start."""

import math
import random
from collections.abc import Callable, Iterator

from app.commands.bench.tally import even_times

DAY_SWING = 0.6  # a day's rate goes from 0.4 to 1.6 of its mean
FLASH_CROWD_FACTOR = 4.0  # the rate in a flash crowd over the rate before it
FLASH_CROWD_START, FLASH_CROWD_RISE, FLASH_CROWD_END = 0.25, 0.01, 0.65  # shares of the whole time


def due_times(rate: float, seconds: float, seed: int = 0) -> Iterator[float]:
    """Requests at `rate` a second: evenly spaced if `seed` is 0, otherwise a Poisson process."""
    if seed:
        yield from varying_rate(lambda _: rate, rate, seconds, seed)
    else:
        yield from even_times(rate, seconds)


def varying_rate(
    rate: Callable[[float], float], max_rate: float, seconds: float, seed: int
) -> Iterator[float]:
    """A Poisson process whose rate changes and never exceeds `max_rate`, by thinning."""
    draw = random.Random(seed)  # noqa: S311  # a load, not a secret
    moment = draw.expovariate(max_rate)
    while moment < seconds:
        if draw.random() * max_rate <= rate(moment):
            yield moment
        moment += draw.expovariate(max_rate)


def day(mean: float, seconds: float) -> Callable[[float], float]:
    """The rate over a day of this length, lowest at both ends."""
    return lambda moment: mean * (1 - DAY_SWING * math.cos(2 * math.pi * moment / seconds))


def flash_crowd(before: float, seconds: float) -> Callable[[float], float]:
    """The rate with a flash crowd that comes within a hundredth of the time and leaves at once."""

    def rate(moment: float) -> float:
        share = moment / seconds
        if share >= FLASH_CROWD_END:
            return before
        risen = min(1.0, max(0.0, (share - FLASH_CROWD_START) / FLASH_CROWD_RISE))
        return before * (1 + (FLASH_CROWD_FACTOR - 1) * risen)

    return rate
