"""A batcher as its tests use it: devices that a test can block or break, a clock, and a log of its events."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from app.batching.batcher import Batcher
from app.batching.device import Device
from app.batching.events import BatchEvents
from app.batching.item import Completed
from app.batching.scheduler import BatchLimits
from app.batching.worker import Launched

FAR = 1e9
BREAKER = "an item that breaks every device"
AnyBatcher = Batcher[Any, Any]
Run = Callable[[list[Any]], list[Any] | Launched[Any]]


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Done(NamedTuple):
    """The result of an item, and the device that gave it."""

    item: Any
    device: "StubDevice"


class StubDevice:
    """Records every batch. Raises an item that is an exception, and MemoryError for more than `fits` items.

    A blocked device keeps its batches until `unblock`; a broken one fails, and so does its check.
    """

    def __init__(self, *, blocked: bool = False, fits: int = 1000) -> None:
        self.batches: list[list[Any]] = []
        self.threads: set[int] = set()
        self.checks = 0
        self.broken = False
        self._fits = fits
        self._arrived = threading.Semaphore(0)
        self._free = threading.Event()
        if not blocked:
            self._free.set()

    def run(self, items: list[Any]) -> list[Any] | Launched[Any]:
        return self.compute(items)

    def compute(self, items: list[Any]) -> list[Any]:
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        self._arrived.release()
        assert self._free.wait(20)
        self.broken = self.broken or BREAKER in items
        if self.broken:
            raise SystemExit("the device is broken")
        if len(items) > self._fits:
            raise MemoryError
        for item in items:
            if isinstance(item, BaseException):
                raise item
        return [Done(item, self) for item in items]

    def check(self) -> None:
        self.checks += 1
        if self.broken:
            raise SystemExit("the device is broken")

    async def busy(self) -> None:
        """Wait until the next batch has arrived."""
        assert await asyncio.to_thread(self._arrived.acquire, timeout=20)

    def block(self) -> None:
        """Keep every batch from now on."""
        self._free.clear()

    def unblock(self) -> None:
        """Let every batch through from now on."""
        self._free.set()


class LaunchingDevice(StubDevice):
    """As a GPU: `run` launches a batch at once, and the device computes one batch after the other."""

    def __init__(self, *, blocked: bool = False, fits: int = 1000) -> None:
        super().__init__(blocked=blocked, fits=fits)
        self.launched: list[list[Any]] = []

    def run(self, items: list[Any]) -> Launched[Any]:
        self.launched.append(list(items))
        return Launched(partial(self.compute, items))

    def all_launched(self, *batches: list[Any]) -> Callable[[], bool]:
        """Whether these batches were launched, and no other."""
        return lambda: self.launched == list(batches)


class EventLog:
    """The events of a batcher."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, float]] = []
        self.retried: list[str] = []
        self.counts: Counter[str] = Counter()
        self.shed: list[int] = []  # priorities
        self.working: list[int] = []  # the number of working devices, at each change

    def events(self) -> BatchEvents:
        return BatchEvents(
            batch_done=lambda size, seconds, flow: self.batches.append((size, seconds)),
            retried=self.retried.append,
            cancelled=lambda: self.counts.update(["cancelled"]),
            expired=lambda: self.counts.update(["expired"]),
            shed=self.shed.append,
            working=self.working.append,
        )


def built(
    *devices: StubDevice | Run,
    limits: BatchLimits = BatchLimits(8),  # noqa: B008 - frozen
    log: EventLog | None = None,
    clock: Callable[[], float] | None = None,
) -> AnyBatcher:
    """A batcher that is not started, with a device for each stub or function."""
    parts = [Device(run.run, run.check) if isinstance(run, StubDevice) else Device(run) for run in devices]
    events = (log or EventLog()).events()
    return Batcher(parts, limits, events, clock) if clock else Batcher(parts, limits, events)


@contextlib.asynccontextmanager
async def running(
    *devices: StubDevice | Run,
    max_batch: int = 8,
    hang_seconds: float = 10.0,
    log: EventLog | None = None,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[AnyBatcher]:
    """A running batcher; its devices are unblocked before it closes."""
    batcher = built(*devices, limits=BatchLimits(max_batch, hang_seconds), log=log, clock=clock)
    await batcher.start()
    try:
        yield batcher
    finally:
        for device in devices:
            if isinstance(device, StubDevice):
                device.unblock()
        await batcher.close(10)


Task = asyncio.Task[Any]


async def queued(batcher: AnyBatcher, *coroutines: Coroutine[Any, Any, Any]) -> list[Task]:
    """The coroutines as tasks, all of which wait in the queue by now."""
    depth = batcher.depth + len(coroutines)
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    for _ in range(100):
        if batcher.depth == depth:
            return tasks
        await asyncio.sleep(0)
    raise AssertionError(f"{batcher.depth} wait instead of {depth}")


async def occupied(batcher: AnyBatcher, *devices: StubDevice) -> list[Task]:
    """An item on each of the blocked devices, so that the next ones stay in the queue."""
    names = [f"first {number}" for number in range(len(devices))]
    tasks = [asyncio.create_task(batcher.submit(name, name, FAR)) for name in names]
    for device in devices:
        await device.busy()
    return tasks


async def outcomes(tasks: list[Task]) -> list[Any]:
    """The item that was answered, or the exception, of each task."""
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    results = [value.result if isinstance(value, Completed) else value for value in done]
    return [result.item if isinstance(result, Done) else result for result in results]


@contextlib.asynccontextmanager
async def occupying(*devices: StubDevice, **options: Any) -> AsyncIterator[tuple[AnyBatcher, list[Task]]]:
    """A running batcher with an item on each of its blocked devices, and the tasks of these items."""
    async with running(*devices, **options) as batcher:
        yield batcher, await occupied(batcher, *devices)
