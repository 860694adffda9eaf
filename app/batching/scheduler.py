"""The queue of items that wait for a device, and which of them make the next batch."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.batching.device import Device
from app.batching.fair_queue import FairQueue
from app.batching.flow import Flow
from app.batching.item import Expired, QueueItem, Shed

T = TypeVar("T")
R = TypeVar("R")

DEADLINE_PASSED = "the deadline passed before the answer was ready"


@dataclass(frozen=True)
class BatchLimits:
    """Most items in a batch; no call counts as hanging before `hang_seconds`.

    A batch starts as soon as a device is free: holding it for more items made requests slower, and under
    load the queue fills batches by itself.
    """

    max_batch: int
    hang_seconds: float = 10.0


class BatchScheduler(Generic[T, R]):
    """One for all devices: each free device takes the next batch from it."""

    def __init__(self, limits: BatchLimits, clock: Callable[[], float]) -> None:
        self.flow = Flow(max(1, limits.max_batch))  # of items without one
        self.closing = False
        self._clock = clock
        self._queue: FairQueue[QueueItem[T, R]] = FairQueue(clock)
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, item: QueueItem[T, R], priority: int) -> None:
        """Add an item to the queue."""
        item.ticket = self._queue.push(item, item.key, item.deadline, priority, self.flow_of(item))
        self._changed.set()

    def discard(self, item: QueueItem[T, R]) -> None:
        """Remove an item from the queue, if it is still there."""
        self._queue.discard(self.flow_of(item), item.ticket)

    def flow_of(self, item: QueueItem[T, R]) -> Flow:
        """The flow that an item belongs to."""
        return self.flow if item.flow is None else item.flow

    def depth_below(self, priority: int) -> int:
        """Number of items of a lower priority."""
        return self._queue.size_below(priority)

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

    async def next_batch(
        self, device: Device[T, R], has_outstanding: Callable[[], bool]
    ) -> list[QueueItem[T, R]] | None:
        """Wait until an item is queued and the device is free, and form a batch; None once there is no more.

        That is when the device is dead, or the scheduler is closing and empty. Then it waits on while
        `has_outstanding`: an item that a device has begun may come back.
        """
        while not device.is_free or (head := self._queue.head()) is None:
            if device.is_dead or (self.closing and not self._queue and not has_outstanding()):
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._form_batch(*head)

    def is_pending(self, item: QueueItem[T, R]) -> bool:
        """Whether the item needs an outcome; expires it if its deadline has passed and its timer is late."""
        if item.deadline <= self._clock():
            item.resolve(Expired(DEADLINE_PASSED))
        return not item.future.done()

    def _form_batch(self, flow: Flow, key: Hashable) -> list[QueueItem[T, R]]:
        """The first items of a group, as many as a batch may have, without cancelled and expired ones."""
        batch: list[QueueItem[T, R]] = []
        while len(batch) < flow.batch_limit and (item := self._queue.pop(flow, key)) is not None:
            if self.is_pending(item):
                batch.append(item)
        flow.charge(len(batch))
        return batch
