"""Several devices on one queue: what happens when one dies or hangs, and that every item is answered."""

import asyncio
import threading

import pytest

from app.batching.device import Device
from app.batching.item import HIGHEST, LOWEST, Closed, RequestHandle, Shed
from app.batching.scheduler import BatchLimits
from tests.support.batching import (
    BREAKER,
    FAR,
    AnyBatcher,
    EventLog,
    StubDevice,
    built,
    occupying,
    outcomes,
    queued,
    running,
)
from tests.support.served import eventually


def blocked(count: int) -> list[StubDevice]:
    return [StubDevice(blocked=True) for _ in range(count)]


def states(batcher: AnyBatcher) -> list[str]:
    return [status.state for status in batcher.statuses]


async def test_each_free_device_takes_the_first_batch() -> None:
    one, other = blocked(2)
    async with occupying(one, other) as (batcher, first):
        tasks = await queued(batcher, *(batcher.submit(n, n % 2, FAR) for n in range(4)))
        other.unblock()
        await eventually(lambda: len(other.batches) == 3, "the free one has run both groups")
        assert other.batches[1:] == [[0, 2], [1, 3]]
        assert len(one.batches) == 1
        one.unblock()
        assert await outcomes([*first, *tasks]) == ["first 0", "first 1", 0, 1, 2, 3]
        assert states(batcher) == ["working", "working"]


async def test_a_device_that_dies_is_taken_out_and_its_batch_is_run_elsewhere() -> None:
    broken, healthy = blocked(2)
    log = EventLog()
    async with occupying(broken, healthy, log=log) as (batcher, first):
        broken.broken = True
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(3)))
        broken.unblock()
        await eventually(lambda: states(batcher) == ["dead", "working"], "the broken one is out")
        assert batcher.alive
        healthy.unblock()
        assert await outcomes([*first, *tasks]) == ["first 0", "first 1", 0, 1, 2]
        assert len(broken.batches) == 1  # it got no other
        assert broken.checks == 1
        assert "its check failed with RuntimeError" in str(batcher.statuses[0].reason)
        assert (await batcher.submit("next", "k", FAR)).result == ("next", healthy)
    assert log.working == [1]


async def test_a_poisoned_item_is_not_the_fault_of_its_device() -> None:
    one, other = blocked(2)
    async with occupying(one, other) as (batcher, first):
        items = ["a", ValueError("poison"), "b", "c"]
        tasks = await queued(batcher, *(batcher.submit(item, "k", FAR) for item in items))
        one.unblock()
        assert await outcomes(tasks) == items
        other.unblock()
        await outcomes(first)
        assert states(batcher) == ["working", "working"]
        assert one.checks + other.checks == 1  # once for the batch, however often its parts fail


async def test_an_item_that_breaks_devices_breaks_no_third_one() -> None:
    async with running(*(StubDevice() for _ in range(3))) as batcher:
        [error] = await outcomes([asyncio.ensure_future(batcher.submit(BREAKER, "k", FAR))])
        assert isinstance(error, RuntimeError)
        assert sorted(states(batcher)) == ["dead", "dead", "working"]
        assert (await batcher.submit("next", "k", FAR)).result.item == "next"


async def test_when_the_last_device_dies_every_item_fails() -> None:
    devices = blocked(2)
    async with occupying(*devices) as (batcher, tasks):
        tasks += await queued(batcher, *(batcher.submit(n, n, FAR) for n in range(3)))
        for device in devices:
            device.broken = True
            device.unblock()
        assert {type(error) for error in await outcomes(tasks)} <= {Closed, RuntimeError}
        assert (batcher.alive, batcher.depth, states(batcher)) == (False, 0, ["dead", "dead"])
        with pytest.raises(Closed):
            await batcher.submit("next", "k", FAR)
        assert await batcher.close(10) is False


async def test_a_device_that_dies_while_closing_leaves_its_batch_to_an_idle_one() -> None:
    broken, healthy = blocked(2)
    healthy.unblock()
    async with occupying(broken, healthy) as (batcher, (first, second)):
        await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
        broken.broken = True
        closing = asyncio.ensure_future(batcher.close(10))
        await asyncio.sleep(0)  # it has begun
        broken.unblock()
        assert await closing is True
        assert await outcomes([first, second]) == ["first 0", "first 1"]


async def test_a_device_that_hangs_gives_its_batch_away_and_works_again_when_it_returns() -> None:
    hangs, healthy = blocked(2)
    healthy.unblock()
    log = EventLog()
    async with occupying(hangs, healthy, hang_seconds=0.5, log=log) as (batcher, tasks):
        assert await outcomes(tasks) == ["first 0", "first 1"]
        assert states(batcher) == ["stuck", "working"]
        assert sorted(batch[0] for batch in healthy.batches) == ["first 0", "first 1"]
        hangs.unblock()
        await eventually(lambda: states(batcher) == ["working", "working"], "it is back")
        assert (await batcher.submit("next", "k", FAR)).result.item == "next"
    assert log.working == [1, 2]
    assert len(log.batches) == 3  # the call that hung is no measure of a batch


def test_the_last_working_device_has_more_time_before_it_hangs() -> None:
    limits = BatchLimits(8, hang_seconds=10)
    timeouts = [built(*[StubDevice()] * count, limits=limits)._hang_timeout() for count in (1, 2)]
    assert timeouts == [60, 10]


async def test_a_stuck_device_does_not_retry_the_items_that_another_has_taken_over() -> None:
    hangs, other = StubDevice(blocked=True, fits=1), StubDevice(blocked=True)
    async with running(hangs, other, hang_seconds=0.3) as batcher:
        tasks = [asyncio.ensure_future(batcher.submit(item, "k", FAR)) for item in "ab"]
        await hangs.busy()
        await other.busy()
        hangs.unblock()
        assert (await batcher.submit("next", "n", FAR)).result == ("next", hangs)
        other.unblock()
        assert await outcomes(tasks) == ["a", "b"]
    assert hangs.batches == [["a", "b"], ["next"]]


async def test_a_stuck_device_that_dies_does_not_fail_the_items_that_another_has_taken_over() -> None:
    hangs, other = StubDevice(blocked=True), StubDevice()
    async with occupying(hangs, other, hang_seconds=0.3) as (batcher, (first, _)):
        other.block()
        await eventually(lambda: ["first 0"] in other.batches, "the other has taken its item over")
        hangs.broken = True
        hangs.unblock()
        await eventually(lambda: states(batcher)[0] == "dead", "the one is dead")
        other.unblock()
        assert await outcomes([first]) == ["first 0"]


async def test_the_last_device_keeps_the_batch_that_it_hangs_on_and_answers_it_when_it_returns() -> None:
    [device] = blocked(1)
    async with occupying(device, hang_seconds=0.01) as (batcher, tasks):
        await eventually(lambda: states(batcher) == ["stuck"], "it hangs")
        assert not batcher.alive
        device.unblock()
        assert await outcomes(tasks) == ["first 0"]
        assert (await batcher.submit("next", "k", FAR)).result.item == "next"
        assert batcher.alive


async def test_the_newest_of_the_lowest_priority_is_shed_from_the_queue_alone() -> None:
    [device] = blocked(1)
    log = EventLog()
    async with running(device, max_batch=4, log=log) as batcher:
        running_item = asyncio.ensure_future(batcher.submit("first", "k", FAR, RequestHandle(LOWEST)))
        await device.busy()
        assert batcher.shed(HIGHEST) is False  # an item on a device stays
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR, RequestHandle(n % 2)) for n in range(4)))
        assert batcher.shed(LOWEST) is False
        assert [batcher.shed(1) for _ in range(3)] == [True, True, False]
        device.unblock()
        assert [type(one) for one in await outcomes([running_item, *tasks])] == [str, Shed, int, Shed, int]
    assert device.batches[1:] == [[1, 3]]
    assert log.shed == [0, 0]


async def test_a_check_that_does_not_end_has_failed_and_no_check_is_none() -> None:
    release = threading.Event()
    device: Device[int, int] = Device(list, lambda: release.wait(20))
    assert await device.self_check(0.01) == "its check did not end"
    assert device.busy  # its thread is still in the check
    release.set()
    assert await Device(list).self_check(1) is None
