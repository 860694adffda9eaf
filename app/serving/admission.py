"""Admission control: bounds requests and bytes in flight, rejects requests that would miss their deadline.

A request counts from `admit` until its permit is released: accepted and not answered yet. One whose image is
cut into tiles takes a slot for each, and releases them one by one. A request that is alone is never rejected
for bytes or time: nothing would correct the estimates, so it would be rejected for ever, and
RCNN_MAX_BODY_BYTES and RCNN_MAX_PIXELS bound it already. Where no slot or time is left, a request waits a
moment before it is rejected: under overload that paces clients that ask again at once. A higher priority is
admitted first, and does not count the work of lower ones as its own wait. Where the queue is full but has
items of a lower priority, a request is admitted without a slot, and `Permit.take_slot` removes one of these
items once the request is decoded. All of this is called on the event loop's thread.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from app.batching.flow import Flow
from app.batching.item import HIGHEST, NORMAL
from app.errors import Draining, Overloaded
from app.serving.models.shares import Shares

ADMISSION_WAIT_SECONDS = 0.5  # a rejected client that asks again at once costs a core; a waiting one a socket
ADMISSION_WAIT_SLOTS = 4  # requests that may wait, for each slot, of the same priority or higher
MIN_ADMISSION_WAIT_SLOTS = 256  # … and for any queue: just as many clients may come to a short one


def admission_wait_slots(max_queue: int) -> int:
    """How many requests may wait for admission to a queue of that length."""
    return max(ADMISSION_WAIT_SLOTS * max_queue, MIN_ADMISSION_WAIT_SLOTS)


Waiting = tuple[Flow, asyncio.Future[None]]
"""A request that waits for admission."""


class Queue(Protocol):
    """The queue behind admission, as it sees it; `app.batching.batcher.Batcher` implements it."""

    def depth_below(self, priority: int) -> int: ...
    def shed(self, priority: int) -> bool: ...


class Permit:
    """The slots and bytes of an admitted request, held in a `with` block; only the first release counts."""

    def __init__(
        self, admission: "Admission", nbytes: int, deadline: float, priority: int, flow: Flow
    ) -> None:
        self._admission = admission
        self._priority = priority
        self._flow = flow
        self._nbytes = nbytes
        self._deadline = deadline
        self._slots = 0
        self._released = False

    def take_slot(self) -> None:
        """Take the request's slot, if it has none: a free one, or that of a queued item of a lower priority.

        The item is removed in this step, so call it right before the request enters the queue. Raises
        Overloaded where neither exists any more.
        """
        if not self._released and not self._slots:
            self._admission._take_slot(self._priority, self._flow)
            self._slots = 1

    def grow(self, nbytes: int, slots: int = 0) -> None:
        """Hold more bytes (fewer, when negative) and slots; raises Overloaded and then changes nothing."""
        if not self._released:
            self._admission._reserve(nbytes, slots, self._deadline, self._priority, self._flow)
            self._nbytes += nbytes
            self._slots += slots

    def release_slot(self) -> None:
        """Release one slot: an image is answered. The last slot stays until `release`."""
        if not self._released and self._slots > 1:
            self._slots -= 1
            self._admission._release_slots(1, self._priority, self._flow)

    def release(self) -> None:
        """Release the slots and the bytes."""
        if not self._released:
            self._released = True
            self._admission._release(self._nbytes, self._slots, self._priority, self._flow)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Admission:
    """Counts the admitted requests, and predicts how long a new one would wait."""

    def __init__(
        self,
        max_queue: int,
        max_queue_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        wait_seconds: float = ADMISSION_WAIT_SECONDS,
    ) -> None:
        self.wait_seconds = wait_seconds
        self._max_queue = max_queue
        self._max_queue_bytes = max_queue_bytes
        self._clock = clock
        self._depth = 0
        self.shares = Shares(max_queue)
        self.flow = Flow()  # of requests whose model is not known
        self._bytes = 0
        self._draining = False
        self._waiting: list[deque[Waiting]] = [deque() for _ in range(HIGHEST + 1)]  # by priority
        self._loads_waited_for = 0  # requests that wait for their model; they hold no bytes yet
        self._without_slot = 0  # admitted requests that will remove an item of a lower priority
        self._queue: Queue | None = None

    def set_queue(self, queue: Queue) -> None:
        """Set the queue whose items can be removed for a higher priority."""
        self._queue = queue

    @property
    def depth(self) -> int:
        """Number of requests admitted and not answered yet."""
        return self._depth

    @property
    def bytes(self) -> int:
        """Bytes that they hold."""
        return self._bytes

    @property
    def slots(self) -> int:
        """Number of slots taken: images to answer."""
        return self.shares.taken

    @property
    def draining(self) -> bool:
        """Whether no request is admitted any more."""
        return self._draining

    @property
    def predicted_wait(self) -> float:
        """Seconds until all admitted requests are answered, by the last batches' seconds per image."""
        return self.shares.wait

    def set_device_count(self, devices: int) -> None:
        """Set how many devices share the work; at least one."""
        self.shares.devices = max(1, devices)

    def drain(self) -> None:
        """Reject all requests from now on; those admitted stay."""
        self._draining = True
        while any(self._waiting):
            self._notify_first()

    def check_capacity(
        self, deadline: float = math.inf, priority: int = NORMAL, flow: Flow | None = None
    ) -> None:
        """Raise Draining or Overloaded before a body is read that `admit` would reject anyway."""
        flow = flow or self.flow
        if self._draining:
            raise Draining("the service is stopping; send the request to another instance, or later")
        if not self._has_slot(priority, flow):
            raise self._queue_is_full()
        if self._depth and self._bytes >= self._max_queue_bytes:
            raise self.overloaded(f"the waiting requests hold all {self._max_queue_bytes} bytes allowed")
        if self._would_miss(deadline, priority, flow):
            work = f"about {self.shares.answer(flow, 1, priority):.1f} s of work are queued"
            raise self.overloaded(f"{work}, more than the request's time")

    async def wait_for_capacity(
        self, deadline: float = math.inf, priority: int = NORMAL, flow: Flow | None = None
    ) -> None:
        """Wait at most `wait_seconds` while no slot or time is left; then as `check_capacity`.

        Waiting requests are admitted by priority, then in the order of arrival. Nothing is reserved for them:
        the body is not read yet, and another request may take the slot.
        """
        pending, flow = sum(map(len, self._waiting[priority:])), flow or self.flow
        must_wait = not self._has_slot(priority, flow) or self._would_miss(deadline, priority, flow)
        if must_wait and not self._draining and pending < admission_wait_slots(self._max_queue):
            notified: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = (flow, notified)
            self._waiting[priority].append(waiting)
            try:
                await asyncio.wait({notified}, timeout=self.wait_seconds)
            finally:
                with contextlib.suppress(ValueError):  # it was notified
                    self._waiting[priority].remove(waiting)
        self.check_capacity(deadline, priority, flow)

    def admit(self, nbytes: int, deadline: float, priority: int = NORMAL, flow: Flow | None = None) -> Permit:
        """Admit a request that holds so many bytes and must be answered by `deadline` (on the clock).

        Raises Draining, or Overloaded with the seconds after which a retry is worthwhile.
        """
        flow = flow or self.flow
        self.check_capacity(deadline, priority, flow)
        if self._depth and self._bytes + nbytes > self._max_queue_bytes:
            raise self._too_many_bytes()
        self._depth += 1
        self._bytes += nbytes
        self._without_slot += 1
        permit = Permit(self, nbytes, deadline, priority, flow)
        if not self.shares.is_full(flow):
            permit.take_slot()
        return permit

    @contextlib.contextmanager
    def wait_for_load(self) -> Iterator[None]:
        """Count a request that waits until its model is loaded; raises Overloaded."""
        if self._loads_waited_for >= self._max_queue:
            raise self.overloaded(f"{self._loads_waited_for} requests wait for models to be loaded already")
        self._loads_waited_for, self._depth = self._loads_waited_for + 1, self._depth + 1
        try:
            yield
        finally:
            self._loads_waited_for, self._depth = self._loads_waited_for - 1, self._depth - 1

    def reserve(self, nbytes: int) -> None:
        """Hold more bytes (fewer, when negative) for work without a slot; raises as `Permit.grow` does."""
        self._reserve(nbytes, 0, math.inf, NORMAL, self.flow)

    def observe(self, batch_size: int, seconds: float, flow: Flow | None = None) -> None:
        """Update the estimates of seconds per batch and per image with a batch that has run."""
        (flow or self.flow).pace.observe(batch_size, seconds)

    def overloaded(self, reason: str) -> Overloaded:
        """The error for this reason, with the seconds after which a retry is worthwhile."""
        retry_after = max(1, math.ceil(self.predicted_wait))
        return Overloaded(f"{reason}; try again in {retry_after} s", retry_after)

    def _would_miss(self, deadline: float, priority: int, flow: Flow, images: int = 1) -> bool:
        """Whether a request of so many images would be answered after its deadline."""
        return self._depth > 0 and self._clock() + self.shares.answer(flow, images, priority) > deadline

    def _reserve(self, nbytes: int, slots: int, deadline: float, priority: int, flow: Flow) -> None:
        alone = self._depth <= 1
        if not alone and self._bytes + nbytes > self._max_queue_bytes:
            raise self._too_many_bytes()
        if slots and not alone and self.slots + slots > self._max_queue:
            free = self._max_queue - self.slots
            raise self.overloaded(f"the image takes {slots} more slots in the queue, {free} are free")
        if slots and not alone and self._would_miss(deadline, priority, flow, slots):
            raise self.overloaded(f"{slots} more images do not fit into the request's time")
        self._bytes += nbytes
        self.shares.take(flow, priority, slots)

    def _has_slot(self, priority: int, flow: Flow) -> bool:
        """Whether a slot is free, or a queued item of a lower priority that no other request will remove."""
        below = self._queue.depth_below(priority) if self._queue else 0
        return not self.shares.is_full(flow) or self._without_slot < below

    def _take_slot(self, priority: int, flow: Flow) -> None:
        if self.shares.is_full(flow) and not (self._queue and self._queue.shed(priority)):
            raise self._queue_is_full()
        self._without_slot -= 1
        self.shares.take(flow, priority, 1)

    def _release(self, nbytes: int, slots: int, priority: int, flow: Flow) -> None:
        self._depth -= 1
        self._bytes -= nbytes
        if not slots:
            self._without_slot -= 1
        self._release_slots(slots, priority, flow)

    def _release_slots(self, slots: int, priority: int, flow: Flow) -> None:
        self.shares.take(flow, priority, -slots)
        for _ in range(min(slots, self._max_queue - self.slots)):
            self._notify_first()

    def _notify_first(self) -> None:
        """Notify the first waiting request of the highest priority that there may be capacity."""
        for queue in reversed(self._waiting):
            for waiting in queue:
                if self._draining or not self.shares.is_full(waiting[0]):
                    queue.remove(waiting)
                    waiting[1].set_result(None)
                    return

    def _queue_is_full(self) -> Overloaded:
        return self.overloaded(f"the queue is full: {self.slots} of {self._max_queue} slots are taken")

    def _too_many_bytes(self) -> Overloaded:
        return self.overloaded(f"the waiting requests may hold {self._max_queue_bytes} bytes in total")
