"""The scheduler: which items make a batch, on a clock of the test's own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from app.batching.device import Device
from app.batching.item import NORMAL, Expired, QueueItem
from app.batching.scheduler import BatchLimits, BatchScheduler
from tests.support.batching import FAR, Clock

Batch = list[QueueItem[Any, Any]] | None


class Bench:
    """A scheduler on a clock that the test moves."""

    def __init__(self, max_batch: int = 3) -> None:
        self.clock = Clock()
        self.device: Device[Any, Any] = Device(list)
        self.scheduler: BatchScheduler[Any, Any] = BatchScheduler(BatchLimits(max_batch), self.clock)

    def push(self, name: str, seconds: float = FAR) -> QueueItem[Any, Any]:
        now, future = self.clock.now, asyncio.get_running_loop().create_future()
        item: QueueItem[Any, Any] = QueueItem(name, "k", now + seconds, now, future)
        self.scheduler.push(item, NORMAL)
        return item

    async def after(self, seconds: float) -> None:
        """Let the time pass and the scheduler look again."""
        self.clock.now += seconds
        self.scheduler.notify()
        for _ in range(5):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def waiting(
    bench: Bench, has_outstanding: Callable[[], bool] = lambda: False
) -> AsyncIterator["asyncio.Task[Batch]"]:
    """A device that waits for its next batch."""
    task = asyncio.create_task(bench.scheduler.next_batch(bench.device, has_outstanding))
    await bench.after(0)
    try:
        yield task
    finally:
        task.cancel()


def names(task: "asyncio.Task[Batch]") -> list[Any] | None:
    """The items of the batch; None where there is none yet."""
    batch = task.result() if task.done() else None
    return None if batch is None else [item.item for item in batch]


async def test_a_batch_starts_with_the_first_item_and_takes_what_is_queued() -> None:
    bench = Bench(max_batch=3)
    async with waiting(bench) as batch:
        assert names(batch) is None
        bench.push("a")
        await bench.after(0)
        assert names(batch) == ["a"]
    for name in "bcde":
        bench.push(name)
    async with waiting(bench) as batch:
        assert names(batch) == ["b", "c", "d"]


async def test_a_closing_scheduler_waits_for_items_that_may_be_queued_again() -> None:
    bench, outstanding = Bench(), [True]
    bench.scheduler.closing = True
    async with waiting(bench, lambda: bool(outstanding)) as batch:
        await bench.after(1)
        assert not batch.done()
        outstanding.clear()
        await bench.after(0)
        assert batch.done()
        assert batch.result() is None


async def test_a_cancelled_item_neither_joins_a_batch_nor_disturbs_the_next() -> None:
    bench = Bench(max_batch=2)
    cancelled = bench.push("cancelled")
    cancelled.future.cancel()
    bench.scheduler.discard(cancelled)
    for name in "ab":
        bench.push(name)
    async with waiting(bench) as batch:
        assert names(batch) == ["a", "b"]


async def test_an_expired_item_takes_no_slot_of_the_batch_and_gets_its_error_then() -> None:
    """Even if its timer is late."""
    bench = Bench(max_batch=2)
    expired, second, third = (bench.push(str(seconds), seconds) for seconds in (60, 61, 62))
    bench.clock.now += 60
    assert await bench.scheduler.next_batch(bench.device, lambda: False) == [second, third]
    assert isinstance(expired.future.result(), Expired)
    assert not second.future.done()
