"""How large a batch pays: found at warm-up, for it differs from device to device and model to model."""

import math
from collections.abc import Callable

# The share of the time per image that a batch twice as large must save. Memory and latency grow with it, so a
# large one must save much. A device that is alone, as at warm-up, saves least: in the service a batch also
# spares interruptions (batches of 4 that saved 12 % of `shapes` alone gave 18 % more images a second).
SMALL, SMALL_SAVING, SAVING = 4, 0.02, 0.1


def useful_batch(
    seconds_per_image: Callable[[int], float], cap: int, in_time: Callable[[], bool] = lambda: True
) -> int:
    """The last size, doubled from 1 up to `cap` while that pays and there is time; a MemoryError ends it.

    A size is not even tried, which would take its memory, where the one before saved less than it must.
    """
    size, seconds, saved = 1, seconds_per_image(1), math.inf
    while size * 2 <= cap and saved >= owed(size * 2) and in_time():
        try:
            larger = seconds_per_image(size * 2)
        except MemoryError:
            break
        saved = 1 - larger / seconds
        if saved < owed(size * 2):
            break
        size, seconds = size * 2, larger
    return size


def owed(size: int) -> float:
    """The share of the time per image that a batch of this size must save over one half as large."""
    return SMALL_SAVING if size <= SMALL else SAVING
