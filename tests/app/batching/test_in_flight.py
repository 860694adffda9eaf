"""Devices that compute on after the call that launched a batch: the next one is launched meanwhile."""

import asyncio
import threading
import weakref
from typing import Any

import pytest

from app.batching.item import Closed, Completed
from app.batching.worker import Launched
from tests.support.batching import (
    FAR,
    AnyBatcher,
    Clock,
    EventLog,
    LaunchingDevice,
    StubDevice,
    Task,
    outcomes,
    queued,
    running,
)
from tests.support.served import eventually


async def launched(batcher: AnyBatcher, device: LaunchingDevice, *batches: list[Any]) -> list[Task]:
    """The items of these batches, launched on the blocked device, one batch after the other."""
    tasks: list[Task] = []
    for batch in batches:
        count = len(device.launched) + 1
        tasks += [asyncio.create_task(batcher.submit(item, str(batch), FAR)) for item in batch]
        await eventually(lambda count=count: len(device.launched) == count, "it is launched")
    return tasks


async def test_while_a_batch_is_computed_the_next_one_is_launched_and_no_third() -> None:
    device = LaunchingDevice(blocked=True)
    async with running(device) as batcher:
        tasks = await launched(batcher, device, ["a"], ["b", "c"])
        tasks += await queued(batcher, *(batcher.submit(name, "k", FAR) for name in "de"))
        await device.busy()
        assert (device.launched, batcher.depth) == ([["a"], ["b", "c"]], 2)
        device.unblock()
        assert await outcomes(tasks) == [*"abcde"]
    assert device.batches == device.launched == [["a"], ["b", "c"], ["d", "e"]]


async def test_nothing_is_launched_before_the_last_launch_is_over() -> None:
    """So that what arrives meanwhile joins the next batch."""
    device, entered, gate = LaunchingDevice(), threading.Event(), threading.Event()

    def run(items: list[Any]) -> Launched[Any]:
        entered.set()
        assert gate.wait(20)
        return device.run(items)

    async with running(run) as batcher:
        first = asyncio.create_task(batcher.submit("a", "k", FAR))
        await eventually(entered.is_set, "it is being launched")
        tasks = await queued(batcher, *(batcher.submit(name, "k", FAR) for name in "bcd"))
        gate.set()
        assert await outcomes([first, *tasks]) == [*"abcd"]
    assert device.launched == [["a"], ["b", "c", "d"]]


async def test_the_time_of_a_batch_does_not_hold_that_of_the_one_before() -> None:
    clock, log, device = Clock(), EventLog(), LaunchingDevice(blocked=True)
    seconds = {"a": 4, "b": 3}

    def run(items: list[Any]) -> Launched[Any]:
        def read() -> list[Any]:
            device.compute(items)
            clock.now += seconds[items[0]]
            return items

        device.launched.append(items)
        return Launched(read)

    async with running(run, log=log, clock=clock) as batcher:
        tasks = await launched(batcher, device, ["a"], ["b"])
        device.unblock()
        assert [await task for task in tasks] == [Completed("a", 0, 4), Completed("b", 4, 3)]
    assert log.batches == [(1, 4), (1, 3)]


async def test_of_two_batches_that_fail_only_the_culprits_do() -> None:
    device, log = LaunchingDevice(blocked=True), EventLog()
    batches: list[list[Any]] = [["a", ValueError("b"), "c"], [ValueError("d"), "e"]]
    async with running(device, log=log) as batcher:
        tasks = await launched(batcher, device, *batches)
        device.unblock()
        assert await outcomes(tasks) == [item for batch in batches for item in batch]
        assert (await batcher.submit("next", "k", FAR)).result == ("next", device)
    assert batcher.statuses[0].state == "working"
    assert sum(size for size, _ in log.batches) == 4


async def test_two_batches_that_do_not_fit_together_halve_the_cap_once() -> None:
    device = LaunchingDevice(blocked=True, fits=1)
    async with running(device, max_batch=8) as batcher:
        tasks = await launched(batcher, device, ["a", "b"], ["c", "d"])
        device.unblock()
        assert await outcomes(tasks) == [*"abcd"]
        assert batcher.flow.max_batch == 4


async def occupied_one(batcher: AnyBatcher, device: StubDevice) -> Task:
    """The item on the first device, which is blocked."""
    task = asyncio.create_task(batcher.submit("first", "first", FAR))
    await device.busy()
    return task


async def test_both_batches_of_a_device_that_dies_are_run_elsewhere() -> None:
    other, broken, log = StubDevice(blocked=True), LaunchingDevice(blocked=True), EventLog()
    async with running(other, broken, log=log) as batcher:
        first = await occupied_one(batcher, other)
        tasks = await launched(batcher, broken, ["a"], ["b", "c"])
        broken.broken = True
        broken.unblock()
        await eventually(lambda: batcher.statuses[1].state == "dead", "it is taken out")
        other.unblock()
        assert await outcomes([first, *tasks]) == ["first", *"abc"]
        assert (await batcher.submit("next", "k", FAR)).result == ("next", other)
        assert broken.launched == [["a"], ["b", "c"]]  # it got no other
        assert batcher.statuses[1].state == "dead"
    assert log.working == [1]


async def test_both_batches_of_a_device_that_hangs_are_given_away_and_it_works_again_after_both() -> None:
    other, hangs, log = StubDevice(), LaunchingDevice(blocked=True), EventLog()
    other.block()
    async with running(other, hangs, hang_seconds=1.0, log=log) as batcher:
        first = await occupied_one(batcher, other)
        tasks = await launched(batcher, hangs, ["a"], ["b"])
        other.unblock()
        assert await outcomes([first, *tasks]) == ["first", *"ab"]
        assert sorted(batch[0] for batch in other.batches[1:]) == ["a", "b"]
        hangs.unblock()
        await eventually(lambda: batcher.statuses[1].state == "working", "it is back")
        assert hangs.batches == [["a"], ["b"]]
        assert (await batcher.submit("next", "k", FAR)).result.item == "next"
    assert log.working == [1, 2]


async def test_close_answers_both_batches_and_what_waits_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    device = LaunchingDevice(blocked=True)
    async with running(device) as batcher:
        tasks = await launched(batcher, device, ["a"], ["b"])
        tasks += await queued(batcher, batcher.submit("c", "k", FAR))
        closing = asyncio.create_task(batcher.close(60))
        await asyncio.sleep(0)  # it has begun
        device.unblock()
        assert await asyncio.wait_for(closing, 10) is True
        assert await outcomes(tasks) == [*"abc"]
        left = {thread for thread in set(threading.enumerate()) - before if thread.name == "batcher"}
        assert not left


async def test_what_outlasts_the_drain_is_failed_also_in_the_second_batch() -> None:
    device = LaunchingDevice(blocked=True)
    async with running(device) as batcher:
        tasks = await launched(batcher, device, ["a"], ["b"])
        assert await asyncio.wait_for(batcher.close(0), 10) is False
        assert [type(error) for error in await outcomes(tasks)] == [Closed] * 2
        assert not batcher.alive


@pytest.mark.parametrize("wrong", [[], ["one"] * 5, None])
async def test_a_wrong_number_of_results_that_were_read_is_an_error(wrong: Any) -> None:
    async with running(lambda items: Launched(lambda: wrong)) as batcher:
        with pytest.raises((RuntimeError, TypeError)):
            await batcher.submit("a", "k", FAR)


class Item:
    """Something whose end can be watched."""


async def test_what_was_read_is_not_kept() -> None:
    async with running(lambda items: Launched(lambda: [None for _ in items])) as batcher:
        item = Item()
        watch = weakref.ref(item)
        await batcher.submit(item, "k", FAR)
        del item
        await eventually(lambda: watch() is None, "it is free")
