"""The batcher: which items make a batch; items that are cancelled or miss their deadline."""

import asyncio
import random
import threading
import weakref
from collections import Counter
from functools import partial
from typing import Any

import pytest

from app.batching.item import Completed, Expired, RequestHandle
from app.batching.worker import Launched
from tests.support.batching import (
    FAR,
    AnyBatcher,
    Clock,
    EventLog,
    Run,
    StubDevice,
    occupied,
    occupying,
    outcomes,
    queued,
    running,
)
from tests.support.served import eventually

# which items make a batch


async def test_a_single_item_is_a_batch_of_one_on_a_thread_of_its_own() -> None:
    device, log = StubDevice(), EventLog()
    async with running(device, log=log) as batcher:
        assert (await batcher.submit("a", "k", FAR)).result == ("a", device)
        assert (await batcher.submit("b", "k", FAR)).result == ("b", device)
    assert device.batches == [["a"], ["b"]]
    assert [size for size, _ in log.batches] == [1, 1]
    assert len(device.threads) == 1
    assert threading.get_ident() not in device.threads


async def test_items_that_wait_become_batches_of_one_group_each() -> None:
    device = StubDevice(blocked=True)
    async with occupying(device, max_batch=3) as (batcher, first):
        names = ["x1", "y1", "x2", "y2", "x3", "x4", "x5"]
        tasks = await queued(batcher, *(batcher.submit(name, name[0], FAR) for name in names))
        device.unblock()
        assert await outcomes([*first, *tasks]) == ["first 0", *names]
    assert device.batches[1:] == [["x1", "x2", "x3"], ["y1", "y2"], ["x4", "x5"]]


async def test_the_group_of_the_most_urgent_item_goes_first_and_within_it_the_most_urgent() -> None:
    device = StubDevice(blocked=True)
    async with occupying(device, max_batch=2) as (batcher, first):
        items = [("x", 50), ("x", 40), ("y", 45), ("x", 60), ("y", 30), ("z", 99)]
        tasks = await queued(batcher, *(batcher.submit(at, key, FAR + at) for key, at in items))
        device.unblock()
        await outcomes([*first, *tasks])
    assert device.batches[1:] == [[30, 45], [40, 50], [60], [99]]


async def test_the_cap_can_be_set_while_running() -> None:
    device = StubDevice(blocked=True)
    async with occupying(device, max_batch=8) as (batcher, first):
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(5)))
        batcher.flow.set_max_batch(2)
        assert batcher.flow.max_batch == 2
        device.unblock()
        await outcomes([*first, *tasks])
        batcher.flow.set_max_batch(0)
        assert batcher.flow.max_batch == 1
    assert device.batches[1:] == [[0, 1], [2, 3], [4]]


async def test_a_result_and_the_events_carry_the_times() -> None:
    clock, log, device = Clock(), EventLog(), StubDevice(blocked=True)

    def run(items: list[Any]) -> list[Any]:
        device.run(items)
        clock.now += 3
        return items

    async with running(run, log=log, clock=clock) as batcher:
        first = asyncio.create_task(batcher.submit("a", "k", clock.now + 99))
        await device.busy()
        clock.now += 1
        [second] = await queued(batcher, batcher.submit("b", "k", clock.now + 99))
        device.unblock()
        assert [await first, await second] == [Completed("a", 0, 4), Completed("b", 3, 3)]
    assert log.batches == [(1, 4), (1, 3)]


# items that are cancelled


class Item:
    """Something whose end can be watched."""


async def test_an_item_cancelled_in_the_queue_never_reaches_the_device_and_is_counted() -> None:
    device, log = StubDevice(blocked=True), EventLog()
    async with occupying(device, log=log) as (batcher, first):
        item = Item()
        watch = weakref.ref(item)
        cancelled, stays = await queued(
            batcher, batcher.submit(item, "k", FAR), batcher.submit("stays", "k", FAR)
        )
        del item
        cancelled.cancel()
        await outcomes([cancelled])
        del cancelled
        assert watch() is None  # its memory is free while the device is still busy
        assert (batcher.depth, log.counts) == (1, {"cancelled": 1})
        device.unblock()
        assert await outcomes([*first, stays]) == ["first 0", "stays"]
    assert device.batches[1:] == [["stays"]]


async def test_an_item_cancelled_as_the_batch_is_formed_is_left_out() -> None:
    device, log = StubDevice(blocked=True), EventLog()
    async with occupying(device, log=log) as (batcher, [first]):
        cancelled, stays = await queued(
            batcher, batcher.submit("cancelled", "k", FAR), batcher.submit("stays", "k", FAR)
        )
        device.unblock()
        first.add_done_callback(lambda _: cancelled.cancel())
        assert await outcomes([first, stays]) == ["first 0", "stays"]
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    on_device = [item for batch in device.batches for item in batch]
    assert log.counts["cancelled"] == (0 if "cancelled" in on_device else 1)


async def test_an_item_cancelled_on_the_device_harms_no_other_and_is_not_counted() -> None:
    device, log = StubDevice(blocked=True), EventLog()
    async with occupying(device, log=log) as (batcher, [first]):
        first.cancel()
        await outcomes([first])
        tasks = await queued(batcher, batcher.submit("next", "k", FAR))
        device.unblock()
        assert await outcomes(tasks) == ["next"]
    assert not log.counts


# deadlines that pass


async def test_a_deadline_that_passes_in_the_queue_is_answered_at_once_and_never_reaches_the_device() -> None:
    device, log = StubDevice(blocked=True), EventLog()
    async with occupying(device, log=log) as (batcher, [first]):
        now = asyncio.get_running_loop().time()
        with pytest.raises(Expired):
            await asyncio.wait_for(batcher.submit("late", "k", now + 0.02), 10)
        assert not first.done()
        assert (batcher.depth, log.counts) == (0, {"expired": 1})
    assert device.batches == [["first 0"]]


async def test_a_request_of_several_items_is_counted_once_when_they_expire() -> None:
    device, log = StubDevice(blocked=True), EventLog()
    async with occupying(device, log=log) as (batcher, _):
        deadline, request = asyncio.get_running_loop().time() + 0.02, RequestHandle()
        tasks = await queued(batcher, *(batcher.submit(n, "k", deadline, request) for n in range(3)))
        assert [type(error) for error in await outcomes(tasks)] == [Expired] * 3
    assert log.counts == {"expired": 1}


async def test_a_deadline_that_passed_before_is_answered_though_the_device_is_idle() -> None:
    device, log, clock = StubDevice(), EventLog(), Clock()
    async with running(device, log=log, clock=clock) as batcher:
        with pytest.raises(Expired):
            await batcher.submit("late", "k", clock.now)
    assert device.batches == []
    assert log.counts == {"expired": 1}


async def test_a_deadline_that_passes_on_the_device_is_answered_then_and_the_late_result_dropped() -> None:
    device, log = StubDevice(blocked=True), EventLog()
    async with running(device, log=log) as batcher:
        now = asyncio.get_running_loop().time()
        slow = asyncio.create_task(batcher.submit("slow", "k", now + 0.5))
        await eventually(lambda: device.batches == [["slow"]], "it is on the device")
        with pytest.raises(Expired):
            await asyncio.wait_for(slow, 10)
        device.unblock()
        assert (await batcher.submit("next", "k", FAR)).result == ("next", device)
    assert log.counts == {"expired": 1}


async def test_a_deadline_that_passes_between_retries_leaves_the_batch() -> None:
    clock, device = Clock(), StubDevice(blocked=True)

    def run(items: list[Any]) -> list[Any]:
        device.run(items)
        if len(items) > 1:
            clock.now += 10
            raise ValueError("too many")
        return items

    async with running(run, clock=clock) as batcher:
        first = await occupied(batcher, device)
        tasks = await queued(
            batcher, batcher.submit("short", "k", clock.now + 5), batcher.submit("long", "k", clock.now + 60)
        )
        device.unblock()
        short, long = await outcomes(tasks)
        await outcomes(first)
    assert isinstance(short, Expired)
    assert long == "long"
    assert device.batches[1:] == [["short", "long"], ["long"]]


# all at once


class Poison(Exception):
    """The error of a poisoned item."""


class StormDevice:
    """Fails on poison, sometimes on size, and records all batches."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - a test needs a seed, not a secret
        self.batches: list[list[tuple[int, int, bool]]] = []

    def __call__(self, items: list[tuple[int, int, bool]]) -> list[int]:
        self.batches.append(items)
        if len(items) > 6 and self.dice.random() < 0.2:
            raise MemoryError
        if any(poison for _, _, poison in items):
            raise Poison([number for number, _, poison in items if poison])
        return [number for number, _, _ in items]


async def storm_request(batcher: AnyBatcher, number: int, dice: random.Random) -> str:
    """Submit one item, perhaps poisoned or in a hurry; the name of its outcome, which is checked."""
    item = (number, dice.randrange(5), dice.random() < 0.05)
    hurry = dice.random() < 0.2
    deadline = asyncio.get_running_loop().time() + (dice.random() * 0.01 if hurry else 30)
    try:
        completed = await batcher.submit(item, item[1], deadline, RequestHandle(dice.randrange(3)))
    except Poison as error:
        return "poison" if item[2] and error.args == ([number],) else "the poison of another"
    except Expired:
        assert hurry
        return "expired"
    assert (completed.result, item[2]) == (number, False)
    assert min(completed.queued, completed.ran) >= 0
    return "answered"


def as_launched(run: Run) -> Run:
    """The same on a device that computes on after the call."""
    return lambda items: Launched(partial(run, items))


@pytest.mark.parametrize("launches", [False, True])
@pytest.mark.parametrize(
    ("seed", "devices"), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (0, 2), (1, 2), (2, 3)]
)
async def test_through_a_storm_every_item_gets_exactly_one_outcome(
    seed: int, devices: int, launches: bool
) -> None:
    dice, run, log, cap = random.Random(seed), StormDevice(seed), EventLog(), 8  # noqa: S311 - as above
    tasks: list[asyncio.Task[str]] = []
    called = as_launched(run) if launches else run
    async with running(*[called] * devices, max_batch=cap, log=log) as batcher:
        for number in range(500):
            tasks.append(asyncio.create_task(storm_request(batcher, number, dice)))
            if dice.random() < 0.1:
                dice.choice(tasks[-20:]).cancel()
            if dice.random() < 0.3:
                await asyncio.sleep(0)
        values = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        assert (batcher.alive, batcher.depth) == (True, 0)
        assert await batcher.close(10) is True
    seen = Counter(value if isinstance(value, str) else type(value).__name__ for value in values)
    assert seen.total() == 500
    assert set(seen) == {"answered", "poison", "expired", "CancelledError"}
    assert log.counts["expired"] == seen["expired"]
    assert log.counts["cancelled"] <= seen["CancelledError"]
    assert all(len({key for _, key, _ in batch}) == 1 for batch in run.batches)
    assert all(1 <= len(batch) <= cap for batch in run.batches)
    assert max(size for size, _ in log.batches) > 1
