"""The end of a batcher: what it answers as it closes, what it gives up, and what is left when a loop dies."""

import asyncio
import logging
import threading

import pytest

from app.batching.item import Closed
from tests.support.batching import (
    FAR,
    Clock,
    StubDevice,
    built,
    occupied,
    occupying,
    outcomes,
    queued,
    running,
)


def batcher_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "batcher"}


@pytest.mark.parametrize("devices", [1, 2])
async def test_close_answers_what_waits_and_leaves_no_thread(devices: int) -> None:
    device, before = StubDevice(blocked=True), batcher_threads()
    async with occupying(*[device] * devices) as (batcher, first):
        tasks = await queued(batcher, *(batcher.submit(n, n % 2, FAR) for n in range(6)))
        closing = asyncio.create_task(batcher.close(60))
        await asyncio.sleep(0)  # it has begun
        with pytest.raises(Closed):
            await batcher.submit("too late", "k", FAR)
        device.unblock()
        assert await asyncio.wait_for(closing, 10) is True  # the last batch wakes an idle device
        assert await outcomes([*first, *tasks]) == [f"first {n}" for n in range(devices)] + [*range(6)]
        assert batcher_threads() <= before
        assert not batcher.alive
        assert await batcher.close(0) is True


@pytest.mark.parametrize("devices", [1, 2])
async def test_what_outlasts_the_drain_is_failed_and_the_thread_ends_with_its_batch(
    caplog: pytest.LogCaptureFixture, devices: int
) -> None:
    device, before = StubDevice(blocked=True), batcher_threads()
    async with occupying(*[device] * devices) as (batcher, first):
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(3)))
        assert await asyncio.wait_for(batcher.close(0), 10) is False
        assert [type(error) for error in await outcomes([*first, *tasks])] == [Closed] * (3 + devices)
        assert (batcher.depth, batcher.alive) == (0, False)
        left = batcher_threads() - before
        assert [thread.daemon for thread in left] == [True] * devices
        device.unblock()
        for thread in left:
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()
        await asyncio.sleep(0)  # what the thread left for the event loop
    assert not caplog.records
    assert len(device.batches) == devices


async def test_close_is_not_clean_while_a_call_runs_whose_item_was_cancelled() -> None:
    device = StubDevice(blocked=True)
    async with occupying(device) as (batcher, [first]):
        first.cancel()
        assert await asyncio.wait_for(batcher.close(0), 10) is False


async def test_close_without_work_is_quick_and_clean() -> None:
    before = batcher_threads()
    async with running(StubDevice()) as batcher:
        assert await batcher.close(0) is True
        assert batcher_threads() <= before  # of the test before one may be ending
    assert await built(StubDevice()).close(0) is True


async def test_before_start_and_after_close_no_item_is_taken() -> None:
    batcher = built(StubDevice())
    assert not batcher.alive
    with pytest.raises(Closed):
        await batcher.submit("a", "k", FAR)
    await batcher.start()
    assert batcher.alive
    with pytest.raises(RuntimeError, match="only once"):
        await batcher.start()
    await batcher.close(10)
    with pytest.raises(Closed):
        await batcher.submit("a", "k", FAR)


async def test_if_the_loop_is_cancelled_every_item_fails() -> None:
    device = StubDevice(blocked=True)
    async with occupying(device) as (batcher, first):
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(3)))
        [loop] = [task for task in asyncio.all_tasks() if task.get_name() == "batcher"]
        loop.cancel()
        assert [type(error) for error in await outcomes([*first, *tasks])] == [Closed] * 4
        assert (batcher.depth, batcher.alive) == (0, False)
        with pytest.raises(Closed):
            await batcher.submit("next", "k", FAR)
        assert await batcher.close(10) is False


async def test_if_the_loop_dies_every_item_fails_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, device = Clock(), StubDevice(blocked=True)

    def breaking_clock() -> float:
        on_loop = threading.current_thread() is threading.main_thread() and asyncio.current_task() is not None
        if on_loop and clock.now < 0:
            raise OSError("no clock")
        return clock.now

    async with occupying(device, clock=breaking_clock) as (batcher, first):
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(3)))
        clock.now = -1
        device.unblock()
        assert await outcomes(first) == ["first 0"]
        assert [type(error) for error in await outcomes(tasks)] == [Closed] * 3
        assert (batcher.depth, batcher.alive) == (0, False)
    [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert record.exc_info is not None
    assert "no clock" in str(record.exc_info[1])


def test_an_event_loop_that_ends_first_leaves_no_thread_and_no_noise() -> None:
    device, before = StubDevice(blocked=True), batcher_threads()

    async def abandoned() -> None:
        batcher = built(device)
        await batcher.start()
        await occupied(batcher, device)

    asyncio.run(abandoned())
    [left] = batcher_threads() - before
    device.unblock()
    left.join(10)
    assert not left.is_alive()
