"""The queue of items that wait for a device, and which of them make the next batch."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.batching.item import Expired, QueueItem, Shed
from app.batching.priority_queue import PriorityQueue

T = TypeVar("T")
R = TypeVar("R")

DEADLINE_PASSED = "the deadline passed before the answer was ready"


@dataclass(frozen=True)
class BatchLimits:
    """Most items in a batch; seconds for which a smaller batch may be held while a device is free."""

    max_batch: int
    wait_seconds: float = 0.0
    hang_seconds: float = 10.0  # no call counts as hanging before


class BatchScheduler(Generic[T, R]):
    """One for all devices: each free device takes the next batch from it."""

    def __init__(self, limits: BatchLimits, clock: Callable[[], float]) -> None:
        self.max_batch = max(1, limits.max_batch)
        self.last_seconds = math.inf  # duration of the last batch; unknown before the first one
        self.closing = False
        self._wait_seconds = limits.wait_seconds
        self._clock = clock
        self._queue: PriorityQueue[QueueItem[T, R]] = PriorityQueue(clock)
        self._changed = asyncio.Event()
        self._held_until = math.inf

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, item: QueueItem[T, R], priority: int) -> None:
        """Add an item to the queue."""
        item.ticket = self._queue.push(item, item.key, item.deadline, priority)
        self._changed.set()

    def discard(self, item: QueueItem[T, R]) -> None:
        """Remove an item from the queue, if it is still there."""
        self._queue.discard(item.ticket)

    def shed(self, priority: int) -> bool:
        """Fail the newest item of the lowest priority, if that is below this one; whether there was one."""
        item = self._queue.pop_newest_below(priority)
        if item is not None:
            item.resolve(Shed("removed from the queue for a request of a higher priority"))
        return item is not None

    def drain(self) -> list[QueueItem[T, R]]:
        """Remove all items; those without an outcome."""
        return [item for item in self._queue.drain() if not item.future.done()]

    def notify(self) -> None:
        """Make the waiting devices look again: something has changed."""
        self._changed.set()

    async def next_batch(self, has_outstanding: Callable[[], bool]) -> list[QueueItem[T, R]] | None:
        """Wait until a batch should start, and form it only then; None once closing and empty.

        It waits on while `has_outstanding`: an item that a device has begun may come back.
        """
        while True:
            head = self._queue.head()
            if head is None:
                if self.closing and not has_outstanding():
                    return None
                await self._wait_for_change(None)
                continue
            key, item = head
            # A new item may shorten a hold, never prolong it.
            self._held_until = min(self._held_until, self._latest_start(item))
            hold = self._held_until - self._clock()
            if hold <= 0 or self.closing or self._queue.size(key) >= self.max_batch:
                return self._form_batch(key)
            del head, key, item  # a loop that waits holds no items
            await self._wait_for_change(hold)

    def is_pending(self, item: QueueItem[T, R]) -> bool:
        """Whether the item needs an outcome; expires it if its deadline has passed and its timer is late."""
        if item.deadline <= self._clock():
            item.resolve(Expired(DEADLINE_PASSED))
        return not item.future.done()

    def _latest_start(self, head: QueueItem[T, R]) -> float:
        """Until when a batch may be held for more items: at most half of what its deadline can spare."""
        now = self._clock()
        spare = head.deadline - now - self.last_seconds
        return min(head.arrived + self._wait_seconds, now + spare / 2)

    async def _wait_for_change(self, seconds: float | None) -> None:
        """Wait until something has changed, at most `seconds`."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _form_batch(self, key: Hashable) -> list[QueueItem[T, R]]:
        """The first `max_batch` pending items of a group: cancelled and expired ones are left out."""
        self._held_until = math.inf
        batch: list[QueueItem[T, R]] = []
        while len(batch) < self.max_batch and (item := self._queue.pop(key)) is not None:
            if self.is_pending(item):
                batch.append(item)
        return batch
