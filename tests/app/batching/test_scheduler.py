"""The scheduler: for how long a batch is held for more items, on a clock of the test's own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from app.batching.item import NORMAL, Expired, QueueItem
from app.batching.scheduler import BatchLimits, BatchScheduler
from tests.support.batching import FAR, Clock, StubDevice, queued, running

Batch = list[QueueItem[Any, Any]] | None


class Bench:
    """A scheduler on a clock that the test moves; the last batch took no time."""

    def __init__(self, max_batch: int = 3, wait_seconds: float = 100, last_seconds: float = 0) -> None:
        self.clock = Clock()
        self.scheduler: BatchScheduler[Any, Any] = BatchScheduler(
            BatchLimits(max_batch, wait_seconds), self.clock
        )
        self.scheduler.last_seconds = last_seconds

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
    task = asyncio.create_task(bench.scheduler.next_batch(has_outstanding))
    await bench.after(0)
    try:
        yield task
    finally:
        task.cancel()


def names(task: "asyncio.Task[Batch]") -> list[Any] | None:
    """The items of the batch; None where there is none yet."""
    batch = task.result() if task.done() else None
    return None if batch is None else [item.item for item in batch]


async def test_a_batch_is_held_until_it_is_full() -> None:
    bench = Bench(max_batch=3)
    async with waiting(bench) as batch:
        for name in "ab":
            bench.push(name)
            await bench.after(1)
        assert names(batch) is None
        bench.push("c")
        await bench.after(0)
        assert names(batch) == ["a", "b", "c"]


async def test_a_hold_ends_after_its_time_which_a_second_item_does_not_prolong() -> None:
    bench = Bench(wait_seconds=100)
    async with waiting(bench) as batch:
        bench.push("a")
        await bench.after(99)
        bench.push("b")
        await bench.after(0.9)
        assert names(batch) is None
        await bench.after(0.2)
        assert names(batch) == ["a", "b"]


async def test_a_hold_takes_at_most_half_of_the_time_that_the_most_urgent_item_can_spare() -> None:
    bench = Bench(wait_seconds=100, last_seconds=2)
    async with waiting(bench) as batch:
        bench.push("patient")
        await bench.after(1)
        bench.push("urgent", seconds=10)
        await bench.after(0)  # (10 - 2) / 2 seconds are left
        assert names(batch) is None
        await bench.after(4.1)
        assert names(batch) == ["urgent", "patient"]


async def test_no_batch_is_held_before_the_first_has_shown_how_long_one_takes() -> None:
    bench = Bench()
    bench.scheduler.last_seconds = float("inf")
    async with waiting(bench) as batch:
        bench.push("a")
        await bench.after(0)
        assert names(batch) == ["a"]


async def test_closing_ends_a_hold() -> None:
    bench = Bench()
    async with waiting(bench) as batch:
        bench.push("a")
        await bench.after(0)
        assert names(batch) is None
        bench.scheduler.closing = True
        await bench.after(0)
        assert names(batch) == ["a"]


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
    async with waiting(bench) as batch:
        cancelled = bench.push("cancelled")
        await bench.after(1)
        cancelled.future.cancel()
        bench.scheduler.discard(cancelled)
        for name in "ab":
            bench.push(name)
        await bench.after(0)
        assert names(batch) == ["a", "b"]


async def test_an_expired_item_takes_no_slot_of_the_batch_and_gets_its_error_then() -> None:
    """Even if its timer is late."""
    bench = Bench(max_batch=2, wait_seconds=0)
    expired, second, third = (bench.push(str(seconds), seconds) for seconds in (60, 61, 62))
    bench.clock.now += 60
    assert await bench.scheduler.next_batch(lambda: False) == [second, third]
    assert isinstance(expired.future.result(), Expired)
    assert not second.future.done()


async def test_a_hold_ends_by_itself() -> None:
    device = StubDevice()
    async with running(device, max_batch=3, wait_seconds=0.02) as batcher:
        await batcher.submit("first", "first", FAR)
        [task] = await queued(batcher, batcher.submit("a", "k", FAR))
        assert (await task).result.item == "a"
