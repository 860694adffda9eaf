"""Batches that fail: only the items at fault do, the cap follows the memory, and nothing is kept."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from app.batching.batcher import Batcher
from app.batching.device import Device
from app.batching.events import BatchEvents
from app.batching.item import Expired
from app.batching.scheduler import BatchLimits
from tests.support.batching import (
    FAR,
    AnyBatcher,
    EventLog,
    StubDevice,
    occupied,
    occupying,
    outcomes,
    queued,
    running,
)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("culprits", [{0}, {5}, {7}, {0, 7}, {2, 3, 4}, set(range(8))])
async def test_only_the_culprits_of_a_batch_fail_each_with_its_own_error(
    culprits: set[int], devices: int
) -> None:
    device, log = StubDevice(blocked=True), EventLog()
    items: list[Any] = [ValueError(n) if n in culprits else n for n in range(8)]
    async with occupying(*[device] * devices, log=log) as (batcher, first):
        tasks = await queued(batcher, *(batcher.submit(item, "k", FAR) for item in items))
        device.unblock()
        assert await outcomes(tasks) == items
        await outcomes(first)
        assert batcher.flow.max_batch == 8
    assert log.retried == ["error"] * len(log.retried)
    assert len(log.retried) <= 3 * len(culprits)  # log2(8) for each culprit
    assert sum(size for size, _ in log.batches) == devices + 8 - len(culprits)


@pytest.mark.parametrize("wrong", [[], ["one"], ["one"] * 5, None, 7])
async def test_a_wrong_number_of_results_fails_the_batch_and_hangs_no_item(wrong: Any) -> None:
    device = StubDevice(blocked=True)

    def run(items: list[Any]) -> Any:
        device.run(items)
        return wrong if "bad" in items else items

    async with running(run) as batcher:
        first = await occupied(batcher, device)
        tasks = await queued(batcher, *(batcher.submit(item, "bad", FAR) for item in ("bad", "bad")))
        device.unblock()
        await outcomes(first)
        for error in await outcomes(tasks):
            if wrong == ["one"]:
                assert error == "one"  # alone, one result is right
            else:
                assert isinstance(error, RuntimeError | TypeError)
        assert (await batcher.submit("good", "k", FAR)).result == "good"


async def test_a_batch_that_does_not_fit_halves_the_cap_for_good_and_is_run_in_parts() -> None:
    device, log = StubDevice(blocked=True, fits=2), EventLog()
    async with occupying(device, log=log) as (batcher, first):
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(20)))
        device.unblock()
        assert await outcomes([*first, *tasks]) == ["first 0", *range(20)]
        assert batcher.flow.max_batch == 2
        assert log.retried == ["memory"] * len(log.retried)
        assert max(size for size, _ in log.batches) == 2
        assert device.checks == 0  # an item may be too large for any device
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(4)))
        await outcomes(tasks)
        assert len(device.batches[-1]) <= 2


async def test_no_part_of_a_batch_that_did_not_fit_is_above_the_new_cap() -> None:
    device = StubDevice(blocked=True, fits=1)
    async with occupying(device, max_batch=3) as (batcher, first):
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(3)))
        device.unblock()
        assert await outcomes([*first, *tasks]) == ["first 0", 0, 1, 2]
        assert batcher.flow.max_batch == 1
    assert device.batches[1:] == [[0, 1, 2], [0], [1], [2]]  # the most urgent first


async def test_one_item_that_never_fits_costs_the_others_only_half_of_the_cap() -> None:
    device, error = StubDevice(blocked=True), MemoryError("17 GiB")
    items = [1, 2, error, 4, 5, 6, 7, 8]
    async with occupying(device) as (batcher, first):
        tasks = await queued(batcher, *(batcher.submit(item, "k", FAR) for item in items))
        device.unblock()
        assert await outcomes([*first, *tasks]) == ["first 0", *items]
        assert batcher.flow.max_batch == 4
        with pytest.raises(MemoryError, match="17 GiB"):
            await batcher.submit(error, "k", FAR)
        assert batcher.flow.max_batch == 4


@pytest.mark.parametrize(
    "raised",
    [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), StopIteration(3)],
)
async def test_whatever_run_raises_is_the_error_of_its_item_and_the_next_is_answered(
    raised: BaseException,
) -> None:
    async with running(device := StubDevice()) as batcher:
        with pytest.raises(RuntimeError):
            await batcher.submit(raised, "k", FAR)
        assert batcher.alive
        assert (await batcher.submit("next", "k", FAR)).result == ("next", device)


async def test_an_event_that_fails_fails_neither_the_answers_nor_the_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("no such metric")

    device = StubDevice(blocked=True)
    events = BatchEvents(broken, broken, lambda: None, lambda: None)
    batcher: AnyBatcher = Batcher([Device(device.run)], BatchLimits(8), events)
    await batcher.start()
    first = await occupied(batcher, device)
    tasks = await queued(batcher, batcher.submit(ValueError("x"), "k", FAR), batcher.submit("y", "k", FAR))
    device.unblock()
    assert await outcomes(first) == ["first 0"]
    assert [type(error) for error in await outcomes(tasks)] == [LookupError] * 2  # no retry was possible
    assert (await batcher.submit("next", "k", FAR)).result == ("next", device)
    assert batcher.alive
    assert await batcher.close(10) is True
    assert "a batch failed with an unexpected error" in caplog.text


# what is kept


class Item:
    """Something whose end can be watched."""


async def test_what_a_failed_run_held_is_free_before_the_next_part_runs() -> None:
    device, held = StubDevice(blocked=True), list["weakref.ref[Item]"]()

    def kernel() -> None:
        tensor = Item()
        held.append(weakref.ref(tensor))
        raise OSError("the error of the device")

    def run(items: list[Any]) -> list[Any]:
        device.run(items)
        assert [watch() for watch in held] == [None] * len(held)
        if len(items) == 1:
            return items
        workspace = Item()
        held.append(weakref.ref(workspace))
        try:
            kernel()
        except OSError as error:
            raise MemoryError from error
        return items

    async with running(run) as batcher:
        first = await occupied(batcher, device)
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(4)))
        gc.disable()
        try:
            device.unblock()
            assert await outcomes([*first, *tasks]) == ["first 0", 0, 1, 2, 3]
        finally:
            gc.enable()
    assert len(held) == 6


async def freed(watch: "weakref.ref[Item]") -> None:
    """Wait until an item is gone: loop and thread release it in their own time, without the collector."""
    async with asyncio.timeout(5):
        while watch() is not None:
            await asyncio.to_thread(lambda: None)


@pytest.mark.parametrize("late", [True, False])
async def test_an_error_frees_its_item_at_once(late: bool) -> None:
    def run(items: list[Any]) -> list[Any]:
        raise ValueError("no")

    async with running(run) as batcher:
        await asyncio.gather(batcher.submit(None, "k", FAR), return_exceptions=True)
        gc.disable()
        try:
            item = Item()
            watch = weakref.ref(item)
            work = asyncio.create_task(batcher.submit(item, "k", 0 if late else FAR))
            [outcome] = await outcomes([work])
            assert isinstance(outcome, Expired if late else ValueError)
            del item, work, outcome
            await freed(watch)
        finally:
            gc.enable()


async def test_an_idle_batcher_keeps_no_item() -> None:
    async with running(lambda items: [None for _ in items]) as batcher:
        item = Item()
        watch = weakref.ref(item)
        await batcher.submit(item, "k", FAR)
        del item
        await freed(watch)
