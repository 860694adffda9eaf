"""Batches: callers submit an item each, a loop a device groups them, its thread runs them. No torch, no HTTP.

    submit ─► BatchScheduler (priority, key, urgency) ─► loops: a batch whenever a device is free ─► Device
      ▲                                                                                             │
      └────────── exactly one outcome each: Answered, or an exception as a value ◄──────────────────┘

A batch is formed when a device is free, of the group that holds the first item of all, never of two groups.
`run` alone is called on other threads; all else is on the event loop, where nothing changes between awaits.
Outcomes travel as values, not as exceptions in futures: none is lost or logged twice, none can stop a loop.
A device that dies or hangs is taken out, and its batch goes back to the queue for another one.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from app.batching.device import WORKING, Device, DeviceStatus
from app.batching.item import HIGHEST, Closed, Completed, Expired, QueueItem, RequestHandle, Shed
from app.batching.scheduler import LATE, BatchLimits, BatchScheduler
from app.batching.worker import RunResult

T = TypeVar("T")
R = TypeVar("R")
logger = logging.getLogger(__name__)
HANG_FACTOR = 20  # times the longest batch so far, after which a call hangs
LAST_DEVICE_HANG_FACTOR = 6  # times that for the last device that works: nobody could take its batch over


@dataclass(frozen=True)
class BatchEvents:
    """What the batcher tells about its work; each is called on the event loop's thread."""

    batch_done: Callable[[int, float], None]  # size and seconds of a batch that gave answers
    retried: Callable[[str], None]  # a failed batch is run again in parts; the reason: "memory" or "error"
    cancelled: Callable[[], None]  # a caller went away before its item reached the device
    expired: Callable[[], None]  # a deadline passed, in the queue or on the device
    # one of this priority left the queue for a higher one
    shed: Callable[[int], None] = lambda priority: None
    working: Callable[[int], None] = lambda devices: None  # so many devices work now


class Batcher(Generic[T, R]):
    """Answers items in batches: `submit` from any number of tasks, one call at a time on each device."""

    def __init__(
        self,
        devices: Sequence[Device[T, R]],
        limits: BatchLimits,
        events: BatchEvents,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At least one device; they answer alike, so an item may go to any of them."""
        self._devices = devices
        self._hang_seconds = limits.hang_seconds
        self._events = events
        self._clock = clock
        self._room: BatchScheduler[T, R] = BatchScheduler(limits, clock)
        self._abandoned = 0
        self._longest = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def depth(self) -> int:
        """Items that wait; those on a device are not among them."""
        return len(self._room)

    @property
    def conditions(self) -> list[DeviceStatus]:
        """How each device fares."""
        return [device.condition for device in self._devices]

    @property
    def alive(self) -> bool:
        """Whether a device works: False before `start`, after `close`, and once all are dead or stuck."""
        pairs = zip(self._tasks, self._devices, strict=False)  # no tasks before the start
        return any(device.works and not task.done() for task, device in pairs)

    @property
    def max_batch(self) -> int:
        """Most items in a batch now; a batch that does not fit into memory lowers it."""
        return self._room.max_batch

    def set_max_batch(self, max_batch: int) -> None:
        """Set the most items in a batch; at least 1."""
        self._room.max_batch = max(1, max_batch)

    async def start(self) -> None:
        """Start the threads and the loops, once."""
        if self._tasks:
            raise RuntimeError("a batcher starts only once; make a new one")
        for device in self._devices:
            device.start(self._clock)
            task = asyncio.create_task(self._loop(device), name="batcher")
            task.add_done_callback(partial(self._on_loop_end, device))
            self._tasks.append(task)

    async def submit(
        self, item: T, key: Hashable, deadline: float, caller: RequestHandle | None = None
    ) -> Completed[R]:
        """Answer an item by its deadline (on the clock); raises Expired, Closed, Shed, or what `run` did."""
        if self._room.closing or not self.alive:
            raise Closed("the batcher takes no items: it is closing or does not run")
        caller = caller or RequestHandle()
        outcome = await self._outcome(item, key, deadline, caller)
        if isinstance(outcome, Completed):
            return outcome
        if caller.mark_finished():  # whatever the outcome is, the caller has had its end
            self._count(outcome, caller)
        try:
            raise outcome
        finally:
            del outcome  # an error's traceback holds this frame: held by it in turn, the item would stay

    def _count(self, outcome: Exception, caller: RequestHandle) -> None:
        if isinstance(outcome, Expired):
            self._events.expired()
        elif isinstance(outcome, Shed):
            self._events.shed(caller.priority)

    def shed(self, priority: int) -> bool:
        """Refuse the newest item of the lowest priority in the queue, if that is below this one."""
        return self._room.shed(priority)

    async def close(self, drain_seconds: float) -> bool:
        """Take nothing new, answer what waits within the time, fail the rest.

        True when there was no rest and the threads have ended; a call of `run` that outlasts the time is not
        waited for, and its thread ends with it.
        """
        self._room.closing = True
        self._room.wake()
        if not self._tasks:
            return True
        await asyncio.wait(self._tasks, timeout=drain_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        if any(device.busy for device in self._devices):
            return False
        for device in self._devices:
            device.join()
        return self._abandoned == 0

    async def _outcome(
        self, item: T, key: Hashable, deadline: float, caller: RequestHandle
    ) -> Completed[R] | Exception:
        """Queue a caller and wait for what becomes of it; it leaves the queue whatever that is."""
        loop, now = asyncio.get_running_loop(), self._clock()
        waiter: QueueItem[T, R] = QueueItem(item, key, deadline, now, loop.create_future())
        self._room.push(waiter, caller.priority)
        timer = loop.call_later(deadline - now, waiter.answer, Expired(LATE))
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if not waiter.dispatched and caller.mark_finished():
                self._events.cancelled()
            raise
        finally:
            timer.cancel()
            self._room.discard(waiter)

    async def _loop(self, device: Device[T, R]) -> None:
        """One batch after the other until closed and empty; what goes wrong with one ends that one alone."""
        while device.works and (batch := await self._room.next_batch(self._owes)) is not None:
            device.take(batch)
            try:
                await self._serve(batch, device)
            except Exception as error:
                logger.exception("a batch could not be served")
                for waiter in device.owed:
                    waiter.answer(error)
            device.batch = []
            del batch  # an idle loop keeps no items
            self._room.wake()  # when closing, the others wait for this end

    def _owes(self) -> bool:
        return any(device.owed for device in self._devices)

    async def _serve(self, batch: list[QueueItem[T, R]], device: Device[T, R]) -> None:
        """Run a batch; a part that fails is run again in halves, until the culprits alone have failed.

        Before that the device is asked whether the fault is its own: its check, once for each batch.
        """
        parts, sound = [batch], False
        while parts:
            part = [waiter for waiter in parts.pop() if waiter.device is device and self._room.wanted(waiter)]
            if not part:
                continue
            outcome = await self._run(part, device)
            if isinstance(outcome, RunResult):
                self._answer(part, outcome)
                continue
            if not sound and not isinstance(outcome, MemoryError):  # an item may be too large for any device
                sound = await self._check(device, outcome)
                if not sound:
                    return
            if len(part) > 1:
                parts += self._split(part, outcome, whole=len(part) == len(batch))
            elif part[0].device is device:
                part[0].answer(outcome)

    async def _run(self, part: list[QueueItem[T, R]], device: Device[T, R]) -> RunResult[R] | Exception:
        """Run the items on the device; if that takes far too long, others take them over meanwhile."""
        for waiter in part:
            waiter.dispatched = True
        patience = self._hang_timeout()
        outcome = await device.call(
            [waiter.item for waiter in part], patience, partial(self._mark_stuck, device)
        )
        if not device.works:
            self._set(device, WORKING)
        elif isinstance(outcome, RunResult):
            self._longest = max(self._longest, outcome.seconds)
        return outcome

    def _hang_timeout(self) -> float:
        """Seconds after which a call that begins now hangs."""
        alone = sum(device.works for device in self._devices) == 1
        return max(self._hang_seconds, HANG_FACTOR * self._longest) * (
            LAST_DEVICE_HANG_FACTOR if alone else 1
        )

    def _mark_stuck(self, device: Device[T, R]) -> None:
        self._set(
            device, DeviceStatus("stuck", "a batch has not come back from it; it works again when it does")
        )
        if self.alive:
            self._requeue(device, None)

    async def _check(self, device: Device[T, R], error: Exception) -> bool:
        """Whether a device on which a batch failed is sound; else it is out, and others take the batch."""
        fault = await device.fault(self._hang_timeout())
        if fault is None:
            return True
        logger.error("a device is taken out: %s; before, a batch failed: %r", fault, error)
        self._set(
            device, DeviceStatus("dead", f"a batch failed with {type(error).__name__}, {fault}; see the log")
        )
        self._requeue(device, error)
        return False

    def _set(self, device: Device[T, R], condition: DeviceStatus) -> None:
        device.condition = condition
        number = self._devices.index(device)
        logger.warning("device %d is %s: %s", number, condition.state, condition.reason or "it is back")
        self._events.working(sum(one.works for one in self._devices))

    def _requeue(self, device: Device[T, R], error: Exception | None) -> None:
        """Queue what a device owes for another one; but only once, for an item may be what kills devices."""
        for waiter in device.owed:
            if not waiter.requeued:
                waiter.requeued, waiter.device = True, None
                self._room.push(waiter, HIGHEST)
            elif error is not None:
                waiter.answer(error)

    def _answer(self, part: list[QueueItem[T, R]], ran: RunResult[R]) -> None:
        for waiter, result in zip(part, ran.results, strict=True):
            waiter.answer(Completed(result, ran.began - waiter.arrived, ran.seconds))
        if ran.seconds <= self._longest:  # from one that hung nobody should learn how long batches take
            self._room.last_seconds = ran.seconds
            self._events.batch_done(len(part), ran.seconds)

    def _split(
        self, part: list[QueueItem[T, R]], error: Exception, *, whole: bool
    ) -> list[list[QueueItem[T, R]]]:
        """The parts of a failed batch that are run next, the most urgent last.

        A whole batch that does not fit halves the cap for good, its parts do not: where one item never fits,
        every part that holds it fails, and that item must not cost all others their batches.
        """
        memory = isinstance(error, MemoryError)
        if memory and whole:
            self.set_max_batch(self._room.max_batch // 2)
        logger.warning(
            "a batch of %d failed and is run in parts, the cap is %d: %r",
            len(part),
            self._room.max_batch,
            error,
        )
        self._events.retried("memory" if memory else "error")
        step = len(part) // 2
        return [part[start : start + step] for start in reversed(range(0, len(part), step))]

    def _on_loop_end(self, device: Device[T, R], task: "asyncio.Task[None]") -> None:
        """A loop is over: whoever still waits for it hears so; the reason is logged unless it was planned."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("the batching loop has died", exc_info=error)
            self._set(device, DeviceStatus("dead", "its loop has died; the log has the reason"))
        rest = device.owed
        if all(one.done() for one in self._tasks):
            rest += self._room.drain()
        for waiter in rest:
            waiter.answer(Closed("the batcher ended before the answer was ready"))
        self._abandoned += len(rest)
        device.stop()
