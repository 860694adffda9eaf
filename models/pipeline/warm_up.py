"""How large a batch pays: found at warm-up, for it differs from device to device and model to model."""

import math
from collections.abc import Callable

# Memory and latency grow with a batch, so one twice as large must save a tenth of the time per image. One
# that is over in a moment need not. A device that is alone, as at warm-up, does not show what batches spare
# in the service, where each begin is an interruption: batches of 4 gave `shapes` 18 % more images a second on
# two cores, alone 3 to 12 %. It may seem no slower, though, as far as a busy start lets that be measured.
SAVING = 0.1
MOMENT, MOMENT_SAVING = 0.1, -0.2  # seconds
# An image that takes so long keeps every core busy by itself. Batches saved `coco-r50-fpn` nothing on two
# cores, and to try one of two took 550 MB that stayed.
BUSY = 0.25  # seconds


def useful_batch(
    seconds_per_image: Callable[[int], float], cap: int, in_time: Callable[[], bool] = lambda: True
) -> int:
    """The last size, doubled from 1 up to `cap` while that pays and there is time; a MemoryError ends it.

    A size is not even tried, which would take its memory, where the one before saved less than it must.
    """
    size, seconds, saved = 1, seconds_per_image(1), math.inf
    if seconds > BUSY:
        return size
    while size * 2 <= cap and saved >= owed(size * 2 * seconds) and in_time():
        try:
            larger = seconds_per_image(size * 2)
        except MemoryError:
            break
        saved = 1 - larger / seconds
        if saved < owed(size * 2 * larger):
            break
        size, seconds = size * 2, larger
    return size


def owed(seconds: float) -> float:
    """The share of the time per image that a batch of so many seconds must save over one half as large."""
    return MOMENT_SAVING if seconds <= MOMENT else SAVING
