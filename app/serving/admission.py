"""Who may enter: a bound on accepted requests, one on their bytes, no promise that a deadline would break.

A request counts from `admit` until its permit is released: accepted and not answered yet. One whose image is
cut into tiles takes a place for each, and gives them back one by one. A request that is alone
is never refused for bytes or time: nothing would correct the figures, so it would be refused for ever, and
RCNN_MAX_BODY_BYTES and RCNN_MAX_PIXELS bound it already. Who finds no place or no time waits a moment at the
door before a refusal: under overload that paces clients that ask again at once. The higher priority enters
first, and does not count the lower ones' work as its own wait. All of this is called on the event loop's
thread.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from app.batching.item import HIGHEST, NORMAL
from app.errors import Draining, Overloaded

ADMISSION_WAIT_SECONDS = (
    0.5  # a refused client that asks again at once costs a core; one that waits costs a socket
)
ADMISSION_WAIT_SLOTS = (
    4  # who may wait at the door, for each place inside, of the same priority or a higher one
)
LEAST_DOOR_PLACES = 256  # … and at any door: the crowd before a short queue is no smaller

_NEWEST_WEIGHT = 0.2  # of the newest batch in the moving average: about the last ten count


def admission_wait_slots(max_queue: int) -> int:
    """How many may wait at the door of a queue of that length."""
    return max(ADMISSION_WAIT_SLOTS * max_queue, LEAST_DOOR_PLACES)


class Permit:
    """The right to be answered, held in a `with` block; released once, however often that is asked for."""

    def __init__(self, admission: "Admission", nbytes: int, deadline: float, priority: int) -> None:
        self._admission = admission
        self._priority = priority
        self._nbytes = nbytes
        self._deadline = deadline
        self._places = 1
        self._released = False

    def grow(self, nbytes: int, places: int = 0) -> None:
        """Hold so many bytes (fewer, when negative) and places more; raises Overloaded, then as before."""
        if not self._released:
            self._admission._hold(nbytes, places, self._deadline, self._priority)
            self._nbytes += nbytes
            self._places += places

    def release_slot(self) -> None:
        """One image less to answer; the last place stays until the release."""
        if not self._released and self._places > 1:
            self._places -= 1
            self._admission._release_slots(1, self._priority)

    def release(self) -> None:
        """Give the places and the bytes back."""
        if not self._released:
            self._released = True
            self._admission._give_back(self._nbytes, self._places, self._priority)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Admission:
    """The door: it counts who is inside, and predicts how long a newcomer would wait."""

    def __init__(
        self, max_queue: int, max_queue_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_queue = max_queue
        self._max_queue_bytes = max_queue_bytes
        self._clock = clock
        self._depth = 0
        self._taken = [0] * (HIGHEST + 1)  # images to answer by priority; a request has one or more
        self._devices = 1
        self._bytes = 0
        self._seconds_per_image: float | None = None
        self._seconds_per_batch = 0.0
        self._stale = False
        self._draining = False
        self._at_door: list[deque[asyncio.Future[None]]] = [deque() for _ in self._taken]  # by priority
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def depth(self) -> int:
        """Requests accepted and not answered yet."""
        return self._depth

    @property
    def bytes(self) -> int:
        """Bytes that they hold."""
        return self._bytes

    @property
    def draining(self) -> bool:
        """Whether the door is closed for good."""
        return self._draining

    @property
    def predicted_wait(self) -> float:
        """Seconds until all who are inside are answered, by the last batches' seconds per image."""
        return self._places * self._pace

    @property
    def full(self) -> bool:
        """Whether no place is free."""
        return self._places >= self._max_queue

    @property
    def _places(self) -> int:
        return sum(self._taken)

    @property
    def _pace(self) -> float:
        """Seconds per image, of all devices together."""
        return (self._seconds_per_image or 0.0) / self._devices

    def set_device_count(self, devices: int) -> None:
        """Expect so many devices to share the work from now on; at least one."""
        self._devices = max(1, devices)

    def drain(self) -> None:
        """Refuse everybody from now on; who is inside stays."""
        self._draining = True
        while any(self._at_door):
            self._call_in()

    async def wait_empty(self) -> None:
        """Wait until nobody is inside."""
        await self._empty.wait()

    @property
    def predicted_answer(self) -> float:
        """Seconds until a newcomer would be answered: all who are inside, itself, and the batch it rides in.

        0 where nobody is inside. Who is let in and then runs out of time has wasted the device's.
        """
        return self._predicted(1, NORMAL)

    def _predicted(self, images: int, priority: int) -> float:
        """The same for so many images; those of a lower priority go behind them."""
        if not self._depth:
            return 0.0
        return (sum(self._taken[priority:]) + images) * self._pace + self._seconds_per_batch

    def check_capacity(self, deadline: float = math.inf, priority: int = NORMAL) -> None:
        """Raise Draining or Overloaded before a body is read that `admit` would refuse anyway."""
        if self._draining:
            raise Draining("the service is stopping; send the request to another instance, or later")
        if self.full:
            raise self.overloaded(f"{self._places} requests wait, {self._max_queue} may")
        if self._depth and self._bytes >= self._max_queue_bytes:
            raise self.overloaded(f"the waiting requests hold all {self._max_queue_bytes} bytes allowed")
        if self._too_late(deadline, priority):
            work = f"about {self._predicted(1, priority):.1f} s of work wait"
            raise self.overloaded(f"{work}, which is more than the request's time")

    async def wait_for_capacity(
        self, deadline: float = math.inf, seconds: float = ADMISSION_WAIT_SECONDS, priority: int = NORMAL
    ) -> None:
        """Wait while there is no place or no time left; then as `check_capacity`.

        The higher priority goes first, then who came first. Nothing is held for who waits: the body is not
        read yet, and the place may go to somebody else.
        """
        crowded = sum(map(len, self._at_door[priority:])) >= admission_wait_slots(self._max_queue)
        full = self.full or self._too_late(deadline, priority)
        if full and not self._draining and not crowded:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._at_door[priority].append(place)
            try:
                await asyncio.wait({place}, timeout=seconds)
            finally:
                with contextlib.suppress(ValueError):  # it was called in
                    self._at_door[priority].remove(place)
        self.check_capacity(deadline, priority)

    def admit(self, nbytes: int, deadline: float, priority: int = NORMAL) -> Permit:
        """Let a request in that holds so many bytes and must be answered by `deadline` (on the clock).

        Raises Draining, or Overloaded with the seconds after which it is worth asking again.
        """
        self.check_capacity(deadline, priority)
        if self._depth and self._bytes + nbytes > self._max_queue_bytes:
            raise self._too_many_bytes()
        self._depth += 1
        self._taken[priority] += 1
        self._bytes += nbytes
        self._empty.clear()
        return Permit(self, nbytes, deadline, priority)

    def observe(self, batch_size: int, seconds: float) -> None:
        """Learn from a batch how long it takes, and an image of it."""
        weight = 1.0 if self._stale else _NEWEST_WEIGHT
        self._stale = False
        self._seconds_per_batch += weight * (seconds - self._seconds_per_batch)
        newest = seconds / batch_size
        known = self._seconds_per_image
        self._seconds_per_image = newest if known is None else known + weight * (newest - known)

    def reset_estimates(self) -> None:
        """Another model runs: what is known holds until the next batch, and no longer."""
        self._stale = True

    def _too_late(self, deadline: float, priority: int, more: int = 1) -> bool:
        """Whether who comes with so many images would be answered too late."""
        return self._depth > 0 and self._clock() + self._predicted(more, priority) > deadline

    def _hold(self, nbytes: int, places: int, deadline: float, priority: int) -> None:
        alone = self._depth <= 1
        if not alone and self._bytes + nbytes > self._max_queue_bytes:
            raise self._too_many_bytes()
        if places and not alone and self._places + places > self._max_queue:
            free = self._max_queue - self._places
            raise self.overloaded(f"the image takes {places} places more in the queue, {free} are free")
        if places and not alone and self._too_late(deadline, priority, places):
            raise self.overloaded(f"{places} more images are too many for the request's time")
        self._bytes += nbytes
        self._taken[priority] += places

    def _give_back(self, nbytes: int, places: int, priority: int) -> None:
        self._depth -= 1
        self._bytes -= nbytes
        if self._depth == 0:
            self._empty.set()
        self._release_slots(places, priority)

    def _release_slots(self, places: int, priority: int) -> None:
        self._taken[priority] -= places
        for _ in range(min(places, self._max_queue - self._places)):
            self._call_in()

    def _call_in(self) -> None:
        """Tell the first of the highest priority at the door that there is room."""
        for waiting in reversed(self._at_door):
            if waiting:
                waiting.popleft().set_result(None)
                return

    def _too_many_bytes(self) -> Overloaded:
        return self.overloaded(f"the waiting requests may hold {self._max_queue_bytes} bytes together")

    def overloaded(self, reason: str) -> Overloaded:
        """The refusal for this reason, with the seconds after which it is worth asking again."""
        retry_after = max(1, math.ceil(self.predicted_wait))
        return Overloaded(f"{reason}; try again in {retry_after} s", retry_after)
