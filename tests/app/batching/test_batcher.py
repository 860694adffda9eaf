"""The batcher: every caller gets exactly one answer, whatever callers, clock, device and detector do."""

import asyncio
import contextlib
import gc
import logging
import random
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from app.batching.batcher import Batcher, BatchEvents
from app.batching.device import Device as OneDevice
from app.batching.item import Closed, Completed, Expired, RequestHandle
from app.batching.scheduler import BatchLimits
from tests.support.served import eventually

FAR = 1e9
Tests = Batcher[Any, Any]


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Device:
    """Notes every batch and, while closed, keeps it until let through; an exception as an item is raised."""

    def __init__(self, *, closed: bool = False) -> None:
        self.batches: list[list[Any]] = []
        self.threads: set[int] = set()
        self.calls = 0
        self._closed = closed
        self._arrived = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)

    def __call__(self, items: list[Any]) -> list[Any]:
        self.calls += 1
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        self._arrived.release()
        if self._closed:
            assert self._passes.acquire(timeout=10)
        for item in items:
            if isinstance(item, BaseException):
                raise item
        return [("done", item) for item in items]

    async def busy(self) -> None:
        """Wait until the next batch has arrived."""
        assert await asyncio.to_thread(self._arrived.acquire, timeout=10)

    def open(self) -> None:
        """Let every batch through from now on."""
        self._closed = False
        self._passes.release(1000)


class Told:
    """What the batcher told through its events."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, float]] = []
        self.retried: list[str] = []
        self.counts: Counter[str] = Counter()

    def events(self) -> BatchEvents:
        return BatchEvents(
            batch_done=lambda size, seconds: self.batches.append((size, seconds)),
            retried=self.retried.append,
            cancelled=lambda: self.counts.update(["cancelled"]),
            expired=lambda: self.counts.update(["expired"]),
        )


@contextlib.asynccontextmanager
async def running(
    run: Callable[[list[Any]], list[Any]],
    *,
    max_batch: int = 8,
    wait_seconds: float = 0.0,
    told: Told | None = None,
    clock: Callable[[], float] | None = None,
    workers: int = 1,
) -> AsyncIterator[Tests]:
    events, limits = (told or Told()).events(), BatchLimits(max_batch, wait_seconds)
    devices = [OneDevice(run) for _ in range(workers)]
    batcher: Tests = Batcher(devices, limits, events, clock) if clock else Batcher(devices, limits, events)
    await batcher.start()
    try:
        yield batcher
    finally:
        if isinstance(run, Device):
            run.open()
        await batcher.close(10)


async def queued(batcher: Tests, *works: Coroutine[Any, Any, Any]) -> list["asyncio.Task[Any]"]:
    """The works as tasks, all of which wait in the queue by now."""
    depth = batcher.depth + len(works)
    tasks = [asyncio.create_task(work) for work in works]
    for _ in range(100):
        if batcher.depth == depth:
            return tasks
        await asyncio.sleep(0)
    raise AssertionError(f"{batcher.depth} wait instead of {depth}")


async def plugged(batcher: Tests, device: Device) -> "asyncio.Task[Any]":
    """An item that keeps the device busy, so that what follows waits."""
    task = asyncio.create_task(batcher.submit("plug", "plug", FAR))
    await device.busy()
    return task


async def plugged_all(batcher: Tests, device: Device, workers: int) -> list["asyncio.Task[Any]"]:
    """As `plugged`, on so many devices."""
    return [await plugged(batcher, device) for _ in range(workers)]


async def outcomes(tasks: list["asyncio.Task[Any]"]) -> list[Any]:
    """The result or the exception of each task."""
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    return [one.result if isinstance(one, Completed) else one for one in found]


def batcher_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batcher"]


# --- which items make a batch ---


async def test_a_single_item_is_a_batch_of_one_on_a_thread_of_its_own() -> None:
    device, told = Device(), Told()
    async with running(device, told=told) as batcher:
        assert (await batcher.submit("a", "k", FAR)).result == ("done", "a")
        assert (await batcher.submit("b", "k", FAR)).result == ("done", "b")
    assert device.batches == [["a"], ["b"]]
    assert [size for size, _ in told.batches] == [1, 1]
    assert len(device.threads) == 1
    assert threading.get_ident() not in device.threads


async def test_what_waits_while_the_device_is_busy_becomes_batches_of_one_group_each() -> None:
    device = Device(closed=True)
    async with running(device, max_batch=3) as batcher:
        plug = await plugged(batcher, device)
        names = ["x1", "y1", "x2", "y2", "x3", "x4", "x5"]
        tasks = await queued(batcher, *(batcher.submit(name, name[0], FAR) for name in names))
        device.open()
        assert await outcomes([plug, *tasks]) == [("done", name) for name in ["plug", *names]]
    assert device.batches[1:] == [["x1", "x2", "x3"], ["y1", "y2"], ["x4", "x5"]]


async def test_the_group_of_the_most_urgent_item_goes_first_and_within_it_the_most_urgent() -> None:
    device = Device(closed=True)
    async with running(device, max_batch=2) as batcher:
        plug = await plugged(batcher, device)
        items = [("x", 50), ("x", 40), ("y", 45), ("x", 60), ("y", 30), ("z", 99)]
        tasks = await queued(batcher, *(batcher.submit(at, key, FAR + at) for key, at in items))
        device.open()
        await outcomes([plug, *tasks])
    assert device.batches[1:] == [[30, 45], [40, 50], [60], [99]]


async def test_the_cap_can_be_set_while_running() -> None:
    device = Device(closed=True)
    async with running(device, max_batch=8) as batcher:
        plug = await plugged(batcher, device)
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(5)))
        batcher.set_max_batch(2)
        assert batcher.max_batch == 2
        device.open()
        await outcomes([plug, *tasks])
        batcher.set_max_batch(0)
        assert batcher.max_batch == 1
    assert device.batches[1:] == [[0, 1], [2, 3], [4]]


async def test_times_are_told_to_the_caller_and_to_the_events() -> None:
    clock, told, device = Clock(), Told(), Device(closed=True)

    def run(items: list[Any]) -> list[Any]:
        device(items)
        clock.now += 3
        return items

    async with running(run, told=told, clock=clock) as batcher:
        first = asyncio.create_task(batcher.submit("a", "k", clock.now + 99))
        await device.busy()
        clock.now += 1
        [second] = await queued(batcher, batcher.submit("b", "k", clock.now + 99))
        device.open()
        assert [await first, await second] == [Completed("a", 0, 4), Completed("b", 3, 3)]
    assert told.batches == [(1, 4), (1, 3)]


# --- holding a batch for company ---


async def held(batcher: Tests, device: Device) -> None:
    """Run a first batch: before one has told how long it takes, none is held."""
    await batcher.submit("first", "first", FAR)
    device.batches.clear()


async def test_a_batch_is_held_until_it_is_full() -> None:
    device = Device()
    async with running(device, max_batch=3, wait_seconds=3600) as batcher:
        await held(batcher, device)
        tasks = await queued(batcher, batcher.submit("a", "k", FAR))
        tasks += await queued(batcher, batcher.submit("b", "k", FAR))
        tasks += [asyncio.create_task(batcher.submit("c", "k", FAR))]
        await outcomes(tasks)
    assert device.batches == [["a", "b", "c"]]


async def test_a_hold_ends() -> None:
    device = Device()
    async with running(device, max_batch=3, wait_seconds=0.02) as batcher:
        await held(batcher, device)
        assert await outcomes([asyncio.create_task(batcher.submit("a", "k", FAR))]) == [("done", "a")]


async def test_nobody_is_held_past_the_deadline() -> None:
    device, told = Device(), Told()
    async with running(device, max_batch=3, wait_seconds=3600, told=told) as batcher:
        await held(batcher, device)
        now = asyncio.get_running_loop().time()
        tasks = await queued(batcher, batcher.submit("patient", "k", FAR))
        tasks += await queued(batcher, batcher.submit("urgent", "k", now + 2))
        assert await outcomes(tasks) == [("done", "patient"), ("done", "urgent")]
    assert device.batches == [["urgent", "patient"]]
    assert not told.counts


async def test_closing_ends_a_hold() -> None:
    device = Device()
    async with running(device, max_batch=3, wait_seconds=3600) as batcher:
        await held(batcher, device)
        tasks = await queued(batcher, batcher.submit("a", "k", FAR))
        assert await batcher.close(10) is True
        assert await outcomes(tasks) == [("done", "a")]


async def test_a_hold_for_a_caller_who_goes_does_not_disturb_the_next() -> None:
    device = Device()
    async with running(device, max_batch=2, wait_seconds=3600) as batcher:
        await held(batcher, device)
        [gone] = await queued(batcher, batcher.submit("gone", "k", FAR))
        gone.cancel()
        await outcomes([gone])
        tasks = [asyncio.create_task(batcher.submit(name, "k", FAR)) for name in "ab"]
        assert await outcomes(tasks) == [("done", "a"), ("done", "b")]


# --- callers who go, deadlines that pass ---


class Item:
    """Something whose end can be watched."""


async def test_a_caller_who_goes_while_waiting_never_reaches_the_device_and_is_counted() -> None:
    device, told = Device(closed=True), Told()
    async with running(device, told=told) as batcher:
        plug = await plugged(batcher, device)
        item = Item()
        watch = weakref.ref(item)
        gone, stays = await queued(batcher, batcher.submit(item, "k", FAR), batcher.submit("stays", "k", FAR))
        del item
        gone.cancel()
        await outcomes([gone])
        del gone
        assert watch() is None  # its memory is free while the device is still busy
        assert (batcher.depth, told.counts) == (1, {"cancelled": 1})
        device.open()
        assert await outcomes([plug, stays]) == [("done", "plug"), ("done", "stays")]
    assert device.batches[1:] == [["stays"]]


async def test_a_caller_who_goes_as_the_batch_is_formed_is_left_out() -> None:
    device, told = Device(closed=True), Told()
    async with running(device, told=told) as batcher:
        plug = await plugged(batcher, device)
        gone, stays = await queued(
            batcher, batcher.submit("gone", "k", FAR), batcher.submit("stays", "k", FAR)
        )
        device.open()
        plug.add_done_callback(lambda _: gone.cancel())
        assert await outcomes([plug, stays]) == [("done", "plug"), ("done", "stays")]
        with pytest.raises(asyncio.CancelledError):
            await gone
    on_device = [item for batch in device.batches for item in batch]
    assert told.counts["cancelled"] == (0 if "gone" in on_device else 1)


async def test_a_caller_who_goes_from_the_device_harms_nobody() -> None:
    device, told = Device(closed=True), Told()
    async with running(device, told=told) as batcher:
        plug = await plugged(batcher, device)
        plug.cancel()
        await outcomes([plug])
        tasks = await queued(batcher, batcher.submit("next", "k", FAR))
        device.open()
        assert await outcomes(tasks) == [("done", "next")]
    assert not told.counts


async def test_a_deadline_that_passes_in_the_queue_is_answered_at_once_and_never_reaches_the_device() -> None:
    device, told = Device(closed=True), Told()
    async with running(device, told=told) as batcher:
        plug = await plugged(batcher, device)
        now = asyncio.get_running_loop().time()
        with pytest.raises(Expired):
            await asyncio.wait_for(batcher.submit("late", "k", now + 0.02), 10)
        assert not plug.done()
        assert (batcher.depth, told.counts) == (0, {"expired": 1})
    assert device.batches == [["plug"]]


async def test_a_deadline_is_kept_by_the_clock_even_if_the_timer_is_late() -> None:
    device, told, clock = Device(closed=True), Told(), Clock()
    async with running(device, max_batch=2, told=told, clock=clock) as batcher:
        plug = await plugged(batcher, device)
        times = [60, 61, 62]
        tasks = await queued(batcher, *(batcher.submit(time, "k", clock.now + time) for time in times))
        clock.now += 60
        device.open()
        late, *others = await outcomes(tasks)
        assert isinstance(late, Expired)
        assert others == [("done", 61), ("done", 62)]
        await plug
    assert device.batches[1:] == [[61, 62]]  # who is late takes nobody's place in the batch
    assert told.counts == {"expired": 1}


async def test_a_deadline_that_passed_before_is_answered_though_the_device_is_idle() -> None:
    device, told, clock = Device(), Told(), Clock()
    async with running(device, told=told, clock=clock) as batcher:
        with pytest.raises(Expired):
            await batcher.submit("late", "k", clock.now)
    assert device.batches == []
    assert told.counts == {"expired": 1}


async def test_a_deadline_that_passes_on_the_device_is_answered_then_and_the_late_result_dropped() -> None:
    device, told = Device(closed=True), Told()
    async with running(device, told=told) as batcher:
        now = asyncio.get_running_loop().time()
        slow = asyncio.create_task(batcher.submit("slow", "k", now + 0.5))
        await eventually(lambda: device.batches == [["slow"]], "it is on the device")
        with pytest.raises(Expired):
            await asyncio.wait_for(slow, 10)
        device.open()
        assert (await batcher.submit("next", "k", FAR)).result == ("done", "next")
    assert told.counts == {"expired": 1}


async def test_a_deadline_that_passes_between_retries_leaves_the_batch() -> None:
    clock, told = Clock(), Told()

    def run(items: list[Any]) -> list[Any]:
        if len(items) > 1:
            clock.now += 10
            raise ValueError("too many")
        return items

    device = Device(closed=True)

    def gated(items: list[Any]) -> list[Any]:
        device(items)
        return run(items)

    async with running(gated, told=told, clock=clock) as batcher:
        plug = await plugged(batcher, device)
        tasks = await queued(
            batcher, batcher.submit("short", "k", clock.now + 5), batcher.submit("long", "k", clock.now + 60)
        )
        device.open()
        short, long = await outcomes(tasks)
        await plug
    assert isinstance(short, Expired)
    assert long == "long"
    assert device.batches[1:] == [["short", "long"], ["long"]]


# --- batches that fail ---


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("culprits", [{0}, {5}, {7}, {0, 7}, {2, 3, 4}, set(range(8))])
async def test_only_the_culprits_of_a_batch_fail_each_with_its_own_error(
    culprits: set[int], workers: int
) -> None:
    device, told = Device(closed=True), Told()
    items: list[Any] = [ValueError(n) if n in culprits else n for n in range(8)]
    async with running(device, told=told, workers=workers) as batcher:
        plugs = await plugged_all(batcher, device, workers)
        tasks = await queued(batcher, *(batcher.submit(item, "k", FAR) for item in items))
        device.open()
        found = await outcomes([*plugs, *tasks])
        assert found[workers:] == [item if n in culprits else ("done", item) for n, item in enumerate(items)]
        assert batcher.max_batch == 8
    assert told.retried == ["error"] * len(told.retried)
    assert len(told.retried) <= 3 * len(culprits)  # log2(8) for each culprit
    assert sum(size for size, _ in told.batches) == workers + 8 - len(culprits)


@pytest.mark.parametrize("wrong", [[], ["one"], ["one"] * 5, None, 7])
async def test_a_wrong_number_of_results_fails_the_batch_and_hangs_nobody(wrong: Any) -> None:
    device = Device(closed=True)

    def run(items: list[Any]) -> Any:
        device(items)
        return wrong if "bad" in items else items

    async with running(run) as batcher:
        plug = await plugged(batcher, device)
        tasks = await queued(batcher, *(batcher.submit(item, "bad", FAR) for item in ("bad", "bad")))
        device.open()
        await plug
        for error in await outcomes(tasks):
            if wrong == ["one"]:
                assert error == "one"  # alone, one result is right
            else:
                assert isinstance(error, RuntimeError | TypeError)
        assert (await batcher.submit("good", "k", FAR)).result == "good"


async def test_a_batch_that_does_not_fit_halves_the_cap_for_good_and_is_run_in_parts() -> None:
    device, told = Device(closed=True), Told()

    def run(items: list[Any]) -> list[Any]:
        device(items)
        if len(items) > 2:
            raise MemoryError
        return items

    async with running(run, told=told) as batcher:
        plug = await plugged(batcher, device)
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(20)))
        device.open()
        await plug
        assert await outcomes(tasks) == list(range(20))
        assert batcher.max_batch == 2
        assert told.retried == ["memory"] * len(told.retried)
        assert max(size for size, _ in told.batches) == 2
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(4)))
        await outcomes(tasks)
        assert len(device.batches[-1]) <= 2


async def test_no_part_of_a_batch_that_did_not_fit_is_above_the_new_cap() -> None:
    device = Device(closed=True)

    def run(items: list[Any]) -> list[Any]:
        device(items)
        if len(items) > 1:
            raise MemoryError
        return items

    async with running(run, max_batch=3) as batcher:
        plug = await plugged(batcher, device)
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(3)))
        device.open()
        await plug
        assert await outcomes(tasks) == [0, 1, 2]
        assert batcher.max_batch == 1
    assert [len(batch) for batch in device.batches[1:]] == [3, 1, 1, 1]


async def test_one_item_that_never_fits_costs_the_others_only_half_of_the_cap() -> None:
    device = Device(closed=True)
    error = MemoryError("17 GiB")
    async with running(device) as batcher:
        plug = await plugged(batcher, device)
        tasks = await queued(
            batcher, *(batcher.submit(item, "k", FAR) for item in [1, 2, error, 4, 5, 6, 7, 8])
        )
        device.open()
        await plug
        found = await outcomes(tasks)
        assert found[2] is error
        assert [one for one in found if one is not error] == [("done", n) for n in (1, 2, 4, 5, 6, 7, 8)]
        assert batcher.max_batch == 4
        with pytest.raises(MemoryError, match="17 GiB"):
            await batcher.submit(error, "k", FAR)
        assert batcher.max_batch == 4


@pytest.mark.parametrize(
    "raised",
    [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), StopIteration(3)],
)
async def test_whatever_run_raises_is_its_callers_error_and_the_next_is_answered(
    raised: BaseException,
) -> None:
    async with running(Device()) as batcher:
        with pytest.raises(RuntimeError):
            await batcher.submit(raised, "k", FAR)
        assert batcher.alive
        assert (await batcher.submit("next", "k", FAR)).result == ("done", "next")


async def test_an_event_that_fails_fails_neither_the_answers_nor_the_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("no such metric")

    device = Device(closed=True)
    batcher: Tests = Batcher(
        [OneDevice(device)], BatchLimits(8), BatchEvents(broken, broken, lambda: None, lambda: None)
    )
    await batcher.start()
    plug = await plugged(batcher, device)
    tasks = await queued(batcher, batcher.submit(ValueError("x"), "k", FAR), batcher.submit("y", "k", FAR))
    device.open()
    assert await outcomes([plug]) == [("done", "plug")]
    assert [type(error) for error in await outcomes(tasks)] == [
        LookupError,
        LookupError,
    ]  # no retry was possible
    assert (await batcher.submit("next", "k", FAR)).result == ("done", "next")
    assert batcher.alive
    assert await batcher.close(10) is True
    assert "a batch could not be served" in caplog.text


async def test_what_a_failed_run_held_is_free_before_the_next_part_runs() -> None:
    device, held = Device(closed=True), list["weakref.ref[Item]"]()

    def kernel() -> None:
        tensor = Item()
        held.append(weakref.ref(tensor))
        raise OSError("the device's own words")

    def run(items: list[Any]) -> list[Any]:
        device(items)
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
        plug = await plugged(batcher, device)
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(4)))
        gc.disable()
        try:
            device.open()
            assert await outcomes(tasks) == [0, 1, 2, 3]
        finally:
            gc.enable()
        await plug
    assert len(held) == 6


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
            deadline = 0 if late else FAR
            work = asyncio.create_task(batcher.submit(item, "k", deadline))
            [outcome] = await outcomes([work])
            assert isinstance(outcome, Expired if late else ValueError)
            del item, work, outcome
            await freed(batcher, watch)
        finally:
            gc.enable()


async def freed(batcher: Tests, watch: "weakref.ref[Item]") -> None:
    """Wait until an item is gone: loop and thread let go of it in their own time, without the collector."""
    async with asyncio.timeout(5):
        while watch() is not None:
            await asyncio.to_thread(lambda: None)


async def test_an_idle_batcher_keeps_no_item() -> None:
    def run(items: list[Any]) -> list[Any]:
        return [None for _ in items]

    async with running(run) as batcher:
        item = Item()
        watch = weakref.ref(item)
        await batcher.submit(item, "k", FAR)
        del item
        await freed(batcher, watch)


# --- the end ---


@pytest.mark.parametrize("workers", [1, 2])
async def test_close_answers_what_waits_and_leaves_no_thread(workers: int) -> None:
    device, before = Device(closed=True), batcher_threads()
    async with running(device, workers=workers) as batcher:
        plugs = await plugged_all(batcher, device, workers)
        tasks = await queued(batcher, *(batcher.submit(n, n % 2, FAR) for n in range(6)))
        closing = asyncio.create_task(batcher.close(10))
        await asyncio.sleep(0)  # it has begun
        with pytest.raises(Closed):
            await batcher.submit("too late", "k", FAR)
        device.open()
        assert await closing is True
        assert await outcomes(plugs) == [("done", "plug")] * workers
        assert await outcomes(tasks) == [("done", item) for item in [0, 1, 2, 3, 4, 5]]
        assert set(batcher_threads()) <= set(before)
        assert not batcher.alive
        assert await batcher.close(0) is True


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_outlasts_the_drain_is_told_so_and_the_thread_ends_with_its_batch(
    caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    device, before = Device(closed=True), batcher_threads()
    async with running(device, workers=workers) as batcher:
        plugs = await plugged_all(batcher, device, workers)
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(3)))
        assert await asyncio.wait_for(batcher.close(0), 10) is False
        assert [type(error) for error in await outcomes([*plugs, *tasks])] == [Closed] * (3 + workers)
        assert (batcher.depth, batcher.alive) == (0, False)
        left = [thread for thread in batcher_threads() if thread not in before]
        assert [thread.daemon for thread in left] == [True] * workers
        device.open()
        for thread in left:
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()
        await asyncio.sleep(0)  # what the thread left for the event loop
    assert not caplog.records
    assert device.batches == [["plug"]] * workers


async def test_a_call_that_nobody_waits_for_still_keeps_close_from_saying_that_all_is_done() -> None:
    device = Device(closed=True)
    async with running(device) as batcher:
        plug = await plugged(batcher, device)
        plug.cancel()
        assert await asyncio.wait_for(batcher.close(0), 10) is False


async def test_close_without_work_is_quick_and_true() -> None:
    before = batcher_threads()
    async with running(Device()) as batcher:
        assert await batcher.close(0) is True
        assert set(batcher_threads()) <= set(before)  # of the test before one may be ending
    never: Tests = Batcher([OneDevice(Device())], BatchLimits(1), Told().events())
    assert await never.close(0) is True


async def test_before_start_and_after_close_nothing_is_taken() -> None:
    batcher: Tests = Batcher([OneDevice(Device())], BatchLimits(1), Told().events())
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


async def test_if_the_loop_is_cancelled_everybody_hears_it() -> None:
    device = Device(closed=True)
    async with running(device) as batcher:
        plug = await plugged(batcher, device)
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(3)))
        [loop] = [task for task in asyncio.all_tasks() if task.get_name() == "batcher"]
        loop.cancel()
        assert [type(error) for error in await outcomes([plug, *tasks])] == [Closed] * 4
        assert (batcher.depth, batcher.alive) == (0, False)
        with pytest.raises(Closed):
            await batcher.submit("next", "k", FAR)
        assert await batcher.close(10) is False


async def test_if_the_loop_dies_everybody_hears_it_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, device = Clock(), Device(closed=True)

    def breaking_clock() -> float:
        if asyncio.current_task() is not None and clock.now < 0:
            raise OSError("no clock")
        return clock.now

    def on_any_thread() -> float:
        return breaking_clock() if threading.current_thread() is threading.main_thread() else clock.now

    async with running(device, clock=on_any_thread) as batcher:
        plug = await plugged(batcher, device)
        tasks = await queued(batcher, *(batcher.submit(n, "k", FAR) for n in range(3)))
        clock.now = -1
        device.open()
        assert await outcomes([plug]) == [("done", "plug")]
        assert [type(error) for error in await outcomes(tasks)] == [Closed] * 3
        assert (batcher.depth, batcher.alive) == (0, False)
    [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert record.exc_info is not None
    assert "no clock" in str(record.exc_info[1])


def test_an_event_loop_that_ends_first_leaves_no_thread_and_no_noise() -> None:
    device, before = Device(closed=True), batcher_threads()

    async def abandoned() -> None:
        batcher: Tests = Batcher([OneDevice(device)], BatchLimits(1), Told().events())
        await batcher.start()
        await plugged(batcher, device)

    asyncio.run(abandoned())
    [left] = [thread for thread in batcher_threads() if thread not in before]
    device.open()
    left.join(10)
    assert not left.is_alive()


# --- all at once ---


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a test needs a seed, not a secret


class Poison(Exception):
    """What a poisoned item makes the device raise."""


class Storm:
    """A device that fails on poison, sometimes on size, and keeps account of all that it is given."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.batches: list[list[tuple[int, int, bool]]] = []

    def __call__(self, items: list[tuple[int, int, bool]]) -> list[int]:
        self.batches.append(items)
        if len(items) > 6 and self.dice.random() < 0.2:
            raise MemoryError
        if any(poison for _, _, poison in items):
            raise Poison([number for number, _, poison in items if poison])
        return [number for number, _, _ in items]


@pytest.mark.parametrize(
    ("seed", "workers"), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (0, 2), (1, 2), (2, 3)]
)
async def test_through_a_storm_everybody_gets_exactly_one_answer(seed: int, workers: int) -> None:
    dice, device, told, cap = seeded(seed), Storm(seeded(seed)), Told(), 8
    seen: Counter[str] = Counter()
    wait = 0.001 * (seed % 2)
    async with running(device, max_batch=cap, wait_seconds=wait, told=told, workers=workers) as batcher:

        async def caller(number: int) -> str:
            item = (number, dice.randrange(5), dice.random() < 0.05)
            hurry = dice.random() < 0.2
            deadline = asyncio.get_running_loop().time() + (dice.random() * 0.01 if hurry else 30)
            try:
                caller = RequestHandle(priority=dice.randrange(3))
                answered = await batcher.submit(item, item[1], deadline, caller)
            except Poison as error:
                return "poison" if item[2] and error.args == ([number],) else "another's poison"
            except Expired:
                assert hurry
                return "expired"
            assert answered.result == number
            assert not item[2]
            assert answered.queued >= 0
            assert answered.ran >= 0
            return "answered"

        tasks = []
        for number in range(500):
            tasks.append(asyncio.create_task(caller(number)))
            if dice.random() < 0.1:
                dice.choice(tasks[-20:]).cancel()
            if dice.random() < 0.3:
                await asyncio.sleep(0)
        for found in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60):
            seen[found if isinstance(found, str) else type(found).__name__] += 1
        assert batcher.alive
        assert batcher.depth == 0
        assert await batcher.close(10) is True
    assert seen.total() == 500
    assert set(seen) == {"answered", "poison", "expired", "CancelledError"}
    assert told.counts["expired"] == seen["expired"]
    assert told.counts["cancelled"] <= seen["CancelledError"]
    assert all(len({key for _, key, _ in batch}) == 1 for batch in device.batches)
    assert all(1 <= len(batch) <= cap for batch in device.batches)
    assert max(size for size, _ in told.batches) > 1
