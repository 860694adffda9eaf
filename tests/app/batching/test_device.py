"""Several devices on one queue: what one does when another dies or hangs, and that everybody is answered."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from app.batching.batcher import Batcher
from app.batching.device import Device
from app.batching.item import HIGHEST, LOWEST, Closed, Completed, RequestHandle, Shed
from app.batching.scheduler import BatchLimits
from tests.app.batching.test_batcher import FAR, Told
from tests.support.served import eventually

Tests = Batcher[Any, Any]


class Gpu:
    """A device that a test may hold, kill, or make fail on an item; it notes what it ran."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.dead = False
        self.checks = 0
        self.free = threading.Event()
        self.free.set()

    def run(self, items: list[Any]) -> list[Any]:
        self.batches.append(list(items))
        assert self.free.wait(20)
        if "killer" in items:
            self.dead = True
        if self.dead:
            raise SystemExit("the device is gone")
        if "poison" in items:
            raise ValueError("poison")
        return [(item, self) for item in items]

    def check(self) -> None:
        self.checks += 1
        if self.dead:
            raise SystemExit("the device is gone")


class Living:
    """How many devices worked, each time that this changed."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.shed: list[int] = []  # the priorities of those who were


@contextlib.asynccontextmanager
async def running(
    *gpus: Gpu, max_batch: int = 4, hang_seconds: float = 10.0, living: Living | None = None
) -> AsyncIterator[Tests]:
    told, heard = Told().events(), living or Living()
    events = replace(told, working=heard.counts.append, shed=heard.shed.append)
    devices = [Device(gpu.run, gpu.check) for gpu in gpus]
    batcher: Tests = Batcher(devices, BatchLimits(max_batch, hang_seconds=hang_seconds), events)
    await batcher.start()
    try:
        yield batcher
    finally:
        for gpu in gpus:
            gpu.free.set()
        await batcher.close(10)


def held(count: int) -> list[Gpu]:
    """Devices that keep their first batch until they are let go."""
    gpus = [Gpu() for _ in range(count)]
    for gpu in gpus:
        gpu.free.clear()
    return gpus


def begun(*works: Coroutine[Any, Any, Any]) -> list["asyncio.Task[Any]"]:
    return [asyncio.ensure_future(work) for work in works]


async def plugged(batcher: Tests, *gpus: Gpu) -> list["asyncio.Task[Any]"]:
    """An item on each of the devices, which are all held."""
    tasks = begun(*(batcher.submit(f"plug {n}", f"plug {n}", FAR) for n, _ in enumerate(gpus)))
    await eventually(lambda: all(gpu.batches for gpu in gpus), "each device has a batch")
    return tasks


async def outcomes(tasks: list["asyncio.Task[Any]"]) -> list[Any]:
    """The item that was answered, or the exception, of each task."""
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    return [one.result[0] if isinstance(one, Completed) else one for one in found]


def states(batcher: Tests) -> list[str]:
    return [condition.state for condition in batcher.conditions]


async def test_each_free_device_takes_the_first_batch() -> None:
    one, other = held(2)
    async with running(one, other) as batcher:
        tasks = await plugged(batcher, one, other)
        tasks += begun(*(batcher.submit(n, n % 2, FAR) for n in range(4)))
        await eventually(lambda: batcher.depth == 4, "four wait")
        other.free.set()
        await eventually(lambda: len(other.batches) == 3, "the free one has run both groups")
        assert other.batches[1:] == [[0, 2], [1, 3]]
        assert len(one.batches) == 1
        one.free.set()
        assert await outcomes(tasks) == ["plug 0", "plug 1", 0, 1, 2, 3]
        assert states(batcher) == ["working", "working"]


async def test_a_device_that_dies_is_taken_out_and_its_batch_is_run_elsewhere() -> None:
    dead, sound = held(2)
    living = Living()
    async with running(dead, sound, living=living) as batcher:
        plugs = await plugged(batcher, dead, sound)
        dead.dead = True
        tasks = begun(*(batcher.submit(n, "k", FAR) for n in range(3)))
        await eventually(lambda: batcher.depth == 3, "three wait")
        dead.free.set()
        await eventually(lambda: states(batcher) == ["dead", "working"], "the dead one is out")
        assert batcher.alive
        sound.free.set()
        assert await outcomes(plugs + tasks) == ["plug 0", "plug 1", 0, 1, 2]
        assert len(dead.batches) == 1  # it got nothing more
        assert dead.checks == 1
        assert "its check with RuntimeError" in str(batcher.conditions[0].reason)
        assert (await batcher.submit("next", "k", FAR)).result == ("next", sound)
    assert living.counts == [1]


async def test_a_poisoned_item_is_not_its_device_s_fault() -> None:
    one, other = held(2)
    async with running(one, other) as batcher:
        plugs = await plugged(batcher, one, other)
        tasks = begun(*(batcher.submit(item, "k", FAR) for item in ("a", "poison", "b", "c")))
        await eventually(lambda: batcher.depth == 4, "four wait")
        one.free.set()
        found = await outcomes(tasks)
        assert [str(one) for one in found] == ["a", "poison", "b", "c"]
        assert isinstance(found[1], ValueError)
        other.free.set()
        await outcomes(plugs)
        assert states(batcher) == ["working", "working"]
        assert one.checks + other.checks == 1  # once for the batch, however often its parts fail


async def test_an_item_that_kills_devices_kills_no_third_one() -> None:
    gpus = [Gpu() for _ in range(3)]
    async with running(*gpus) as batcher:
        [error] = await outcomes(begun(batcher.submit("killer", "k", FAR)))
        assert isinstance(error, RuntimeError)
        assert sorted(states(batcher)) == ["dead", "dead", "working"]
        assert await outcomes(begun(batcher.submit("next", "k", FAR))) == ["next"]


async def test_when_the_last_device_dies_everybody_hears_it() -> None:
    gpus = held(2)
    async with running(*gpus) as batcher:
        tasks = await plugged(batcher, *gpus)
        tasks += begun(*(batcher.submit(n, n, FAR) for n in range(3)))
        await eventually(lambda: batcher.depth == 3, "three wait")
        for gpu in gpus:
            gpu.dead = True
            gpu.free.set()
        assert {type(error) for error in await outcomes(tasks)} <= {Closed, RuntimeError}
        assert (batcher.alive, batcher.depth, states(batcher)) == (False, 0, ["dead", "dead"])
        with pytest.raises(Closed):
            await batcher.submit("next", "k", FAR)
        assert await batcher.close(10) is False


async def test_a_device_that_dies_while_closing_leaves_its_batch_to_one_that_has_nothing_to_do() -> None:
    dead, sound = held(2)
    sound.free.set()
    async with running(dead, sound) as batcher:
        first, second = begun(batcher.submit("a", "a", FAR), batcher.submit("b", "b", FAR))
        await eventually(lambda: bool(dead.batches), "the one has a batch")
        await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
        dead.dead = True
        closing = asyncio.ensure_future(batcher.close(10))
        await asyncio.sleep(0)  # it has begun
        dead.free.set()
        assert await closing is True
        assert sorted(await outcomes([first, second])) == ["a", "b"]


async def test_a_device_that_hangs_gives_its_batch_away_and_works_again_when_it_returns() -> None:
    hangs, sound = held(2)
    sound.free.set()
    living = Living()
    async with running(hangs, sound, hang_seconds=0.5, living=living) as batcher:
        tasks = begun(*(batcher.submit(name, name, FAR) for name in "ab"))
        assert await outcomes(tasks) == ["a", "b"]
        assert states(batcher) == ["stuck", "working"]
        assert sorted(batch[0] for batch in sound.batches) == ["a", "b"]
        hangs.free.set()
        await eventually(lambda: states(batcher) == ["working", "working"], "it is back")
        assert await outcomes(begun(batcher.submit("next", "k", FAR))) == ["next"]
    assert living.counts == [1, 2]


async def test_the_last_device_keeps_the_batch_that_it_hangs_on_and_answers_it_when_it_returns() -> None:
    [gpu] = held(1)
    async with running(gpu, hang_seconds=0.01) as batcher:
        [task] = begun(batcher.submit("a", "k", FAR))
        await eventually(lambda: states(batcher) == ["stuck"], "it hangs")
        assert not batcher.alive
        gpu.free.set()
        assert await outcomes([task]) == ["a"]
        assert await outcomes(begun(batcher.submit("next", "k", FAR))) == ["next"]
        assert batcher.alive


async def test_the_newest_of_the_lowest_priority_is_shed_from_the_queue_and_from_nowhere_else() -> None:
    [gpu] = held(1)
    living = Living()
    async with running(gpu, living=living) as batcher:
        low = RequestHandle(priority=LOWEST)
        [plug] = begun(batcher.submit("plug", "plug", FAR, low))
        await eventually(lambda: bool(gpu.batches), "it runs")
        assert batcher.shed(HIGHEST) is False  # what is on a device stays
        tasks = begun(*(batcher.submit(n, "k", FAR, RequestHandle(priority=n % 2)) for n in range(4)))
        await eventually(lambda: batcher.depth == 4, "four wait")
        assert batcher.shed(LOWEST) is False
        assert [batcher.shed(1) for _ in range(3)] == [True, True, False]
        gpu.free.set()
        found = await outcomes([plug, *tasks])
        assert [type(one) for one in found] == [str, Shed, int, Shed, int]
    assert gpu.batches[1:] == [[1, 3]]
    assert living.shed == [0, 0]
