"""Where items wait for a device, and which of them make the next batch: one group, the first ones of it."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.batching.item import Expired, QueueItem, Shed
from app.batching.priority_queue import RankedQueue

T = TypeVar("T")
R = TypeVar("R")

LATE = "the deadline passed before the answer was ready"


@dataclass(frozen=True)
class BatchLimits:
    """Most items in a batch; seconds for which a smaller batch may be held while a device is free."""

    max_batch: int
    wait_seconds: float = 0.0
    hang_seconds: float = 10.0  # no call is taken to hang before


class BatchScheduler(Generic[T, R]):
    """One for all devices: each free one takes the next batch out of it."""

    def __init__(self, limits: BatchLimits, clock: Callable[[], float]) -> None:
        self.max_batch = max(1, limits.max_batch)
        self.last_seconds = math.inf  # how long a batch takes: before the first one nobody knows
        self.closing = False
        self._wait_seconds = limits.wait_seconds
        self._clock = clock
        self._queue: RankedQueue[QueueItem[T, R]] = RankedQueue(clock)
        self._changed = asyncio.Event()
        self._held_until = math.inf

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, waiter: QueueItem[T, R], priority: int) -> None:
        """Let an item wait."""
        waiter.ticket = self._queue.push(waiter, waiter.key, waiter.deadline, priority)
        self._changed.set()

    def discard(self, waiter: QueueItem[T, R]) -> None:
        """Let an item leave, if it is still here."""
        self._queue.discard(waiter.ticket)

    def shed(self, priority: int) -> bool:
        """Refuse the newest item of the lowest priority, if that is below this one."""
        waiter = self._queue.pop_newest_below(priority)
        if waiter is not None:
            waiter.answer(Shed("the place in the queue went to a request of a higher priority"))
        return waiter is not None

    def drain(self) -> list[QueueItem[T, R]]:
        """Take everybody out who still waits for an answer."""
        return [waiter for waiter in self._queue.drain() if not waiter.future.done()]

    def wake(self) -> None:
        """Let the devices look again: something has changed."""
        self._changed.set()

    async def next_batch(self, owed: Callable[[], bool]) -> list[QueueItem[T, R]] | None:
        """Wait until a batch should begin, and form it only then; None once closing and empty.

        But not while anything is `owed` by a device: it may still come back.
        """
        while True:
            head = self._queue.head()
            if head is None:
                if self.closing and not owed():
                    return None
                await self._change(None)
                continue
            key, waiter = head
            # Newcomers may shorten a hold, never prolong it.
            self._held_until = min(self._held_until, self._latest_begin(waiter))
            hold = self._held_until - self._clock()
            if hold <= 0 or self.closing or self._queue.size(key) >= self.max_batch:
                return self._form(key)
            del head, key, waiter  # a loop that waits holds no items
            await self._change(hold)

    def wanted(self, waiter: QueueItem[T, R]) -> bool:
        """Whether the caller still waits; one whose time is up hears it now, should its timer be late."""
        if waiter.deadline <= self._clock():
            waiter.answer(Expired(LATE))
        return not waiter.future.done()

    def _latest_begin(self, head: QueueItem[T, R]) -> float:
        """Until when a batch may be held for company: at most half of what its deadline can spare."""
        now = self._clock()
        spare = head.deadline - now - self.last_seconds
        return min(head.arrived + self._wait_seconds, now + spare / 2)

    async def _change(self, seconds: float | None) -> None:
        """Wait until something has changed, at most `seconds`."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _form(self, key: Hashable) -> list[QueueItem[T, R]]:
        """Up to `max_batch` of a group, the first ones, without callers who have gone or are late."""
        self._held_until = math.inf
        batch: list[QueueItem[T, R]] = []
        while len(batch) < self.max_batch and (waiter := self._queue.pop(key)) is not None:
            if self.wanted(waiter):
                batch.append(waiter)
        return batch
