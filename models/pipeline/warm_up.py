"""Finds the largest useful batch at warm-up, as it depends on device and model."""

import math
import time
from collections.abc import Callable

# Memory and latency grow with the batch, so doubling it must save a tenth of the time per image. A short
# batch need not: at warm-up an idle device does not show what batches save in the service, where each start
# interrupts other work. Batches of 4 gave `shapes` 18 % more images a second in the service on two cores, 3
# to 12 % alone. It may even measure up to 20 % slower, as timing is noisy during a busy start.
SAVING = 0.1
SHORT_BATCH, SHORT_BATCH_SAVING = 0.1, -0.2  # seconds
# An image that takes this long keeps every core busy by itself. Batches saved `coco-r50-fpn` nothing on two
# cores, and trying a batch of two allocated 550 MB that were not released.
SLOW_IMAGE = 0.25  # seconds
RUNS, MAX_RUN_SECONDS = 6, 0.5  # limits of the timed runs of each batch size


def useful_batch(
    seconds_per_image: Callable[[int], float], cap: int, in_time: Callable[[], bool] = lambda: True
) -> int:
    """Double the size from 1 up to `cap` while that saves enough and time is left; a MemoryError ends it.

    A size is not tried, as that allocates its memory, if the previous doubling saved less than it requires.
    """
    size, seconds, saved = 1, seconds_per_image(1), math.inf
    if seconds > SLOW_IMAGE:
        return size
    while size * 2 <= cap and saved >= required_saving(size * 2 * seconds) and in_time():
        try:
            larger = seconds_per_image(size * 2)
        except MemoryError:
            break
        saved = 1 - larger / seconds
        if saved < required_saving(size * 2 * larger):
            break
        size, seconds = size * 2, larger
    return size


def required_saving(seconds: float) -> float:
    """The share of the time per image that a batch of that duration must save over half its size."""
    return SHORT_BATCH_SAVING if seconds <= SHORT_BATCH else SAVING


def best_seconds(run: Callable[[], object]) -> float:
    """The best time of a few runs, as noise only adds time."""
    seconds: list[float] = []
    while len(seconds) < RUNS and sum(seconds) <= MAX_RUN_SECONDS:
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
