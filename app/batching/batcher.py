"""Batches: requests submit an item each, a loop for each device groups them, its threads run them.

    submit ─► BatchScheduler (priority, key, deadline) ─► loops: a batch whenever a device is free ─► Device
      ▲                                                                                                │
      └────────── exactly one outcome each: Completed, or an exception as a value ◄────────────────────┘

A batch is formed when a device is free, of the group of the first item in the queue, never of two groups.
A device that computes on after the call that launched a batch has a second loop: it is free again after that.
`run` alone is called on other threads; all else is on the event loop, where nothing changes between awaits.
Outcomes are values, not exceptions in futures: none is lost or logged twice, none can stop a loop.
A device that dies or hangs is taken out, and its batch goes back to the queue for another one.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Generic, TypeVar

from app.batching.device import IN_FLIGHT, WORKING, Device, DeviceStatus
from app.batching.events import BatchEvents
from app.batching.flow import Flow
from app.batching.item import HIGHEST, Closed, Completed, Expired, QueueItem, RequestHandle, Shed
from app.batching.scheduler import DEADLINE_PASSED, BatchLimits, BatchScheduler
from app.batching.worker import RunResult

T = TypeVar("T")
R = TypeVar("R")
logger = logging.getLogger(__name__)
HANG_FACTOR = 20  # times the longest batch so far, after which a call counts as hanging
LAST_DEVICE_HANG_FACTOR = 6  # times that for the last working device: no other could take over its batch


class Batcher(Generic[T, R]):
    """Runs items in batches: `submit` from any number of tasks, one call of `run` at a time on a device."""

    def __init__(
        self,
        devices: Sequence[Device[T, R]],
        limits: BatchLimits,
        events: BatchEvents,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At least one device; all give the same results, so an item may go to any of them."""
        self._devices = devices
        self._hang_seconds = limits.hang_seconds
        self._events = events
        self._clock = clock
        self._scheduler: BatchScheduler[T, R] = BatchScheduler(limits, clock)
        self.flow = self._scheduler.flow  # of items that are submitted without one
        self._abandoned = 0
        self._longest_seconds = 0.0

    @property
    def depth(self) -> int:
        """Number of items in the queue; those on a device are not among them."""
        return len(self._scheduler)

    @property
    def statuses(self) -> list[DeviceStatus]:
        """The status of each device."""
        return [device.status for device in self._devices]

    @property
    def alive(self) -> bool:
        """Whether a device works: False before `start`, after `close`, and once all are dead or stuck."""
        return any(device.is_working and device.is_run for device in self._devices)

    @property
    def dead(self) -> bool:
        """Whether all devices are dead: none of them works again in this process."""
        return all(device.is_dead for device in self._devices)

    async def start(self) -> None:
        """Start the threads and the loops, once."""
        if self._loops:
            raise RuntimeError("a batcher starts only once; make a new one")
        for device in self._devices:
            device.start(self._clock)
            self._start_loop(device)

    def _start_loop(self, device: Device[T, R]) -> None:
        device.loops.append(asyncio.create_task(self._loop(device), name="batcher"))
        device.loops[-1].add_done_callback(partial(self._on_loop_end, device))

    @property
    def _loops(self) -> list["asyncio.Task[None]"]:
        return [loop for device in self._devices for loop in device.loops]

    async def submit(
        self,
        item: T,
        key: Hashable,
        deadline: float,
        request: RequestHandle | None = None,
        flow: Flow | None = None,
    ) -> Completed[R]:
        """Answer an item by its deadline (on the clock); raises Expired, Closed, Shed or `run`'s error."""
        if self._scheduler.closing or not self.alive:
            raise Closed("the batcher takes no items: it is closing or does not run")
        request = request or RequestHandle()
        loop, now = asyncio.get_running_loop(), self._clock()
        queued: QueueItem[T, R] = QueueItem(item, key, deadline, now, loop.create_future(), flow)
        self._scheduler.push(queued, request.priority)
        timer = loop.call_later(deadline - now, queued.resolve, Expired(DEADLINE_PASSED))
        try:
            outcome = await queued.future
        except asyncio.CancelledError:
            if not queued.dispatched and request.mark_finished():
                self._events.cancelled()
            raise
        finally:
            timer.cancel()
            self._scheduler.discard(queued)
        if isinstance(outcome, Completed):
            return outcome
        if request.mark_finished():
            self._count(outcome, request)
        try:
            raise outcome
        finally:
            del outcome, queued  # the error's traceback holds this frame: a cycle would keep the item alive

    def _count(self, outcome: Exception, request: RequestHandle) -> None:
        if isinstance(outcome, Expired):
            self._events.expired()
        elif isinstance(outcome, Shed):
            self._events.shed(request.priority)

    def depth_below(self, priority: int) -> int:
        """Number of items in the queue of a lower priority: `shed` can remove them."""
        return self._scheduler.depth_below(priority)

    def shed(self, priority: int) -> bool:
        """Fail the newest item of the lowest priority in the queue, if that is below this one."""
        return self._scheduler.shed(priority)

    async def close(self, drain_seconds: float) -> bool:
        """Take no new items, answer those in the queue within the time, fail the rest.

        True when there was no rest and the threads have ended. A call of `run` that takes longer is
        abandoned: its thread ends with it.
        """
        self._scheduler.closing = True
        self._scheduler.notify()
        if not (loops := self._loops):
            return True
        await asyncio.wait(loops, timeout=drain_seconds)
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)
        if any(device.busy for device in self._devices):
            return False
        for device in self._devices:
            device.join()
        return self._abandoned == 0

    async def _loop(self, device: Device[T, R]) -> None:
        """Run one batch after the other until closed and empty; an error ends its own batch alone."""
        next_batch = partial(self._scheduler.next_batch, device, self._has_outstanding)
        while (batch := await next_batch()) is not None:
            device.assign(batch)
            try:
                await self._run_batch(batch, device)
            except Exception as error:
                logger.exception("a batch failed with an unexpected error")
                for item in device.owned(batch):
                    item.resolve(error)
            device.finish(batch)
            del batch  # an idle loop holds no items
            self._scheduler.notify()  # when closing, the other loops wait for this one

    def _has_outstanding(self) -> bool:
        return any(device.outstanding for device in self._devices)

    def _on_launch(self, device: Device[T, R], batch: list[QueueItem[T, R]]) -> None:
        device.mark_launched(batch)
        if len(device.loops) < IN_FLIGHT and not self._scheduler.closing:
            self._start_loop(device)
        self._scheduler.notify()

    async def _run_batch(self, batch: list[QueueItem[T, R]], device: Device[T, R]) -> None:
        """Run a batch; a part that fails is run again in halves, until only the items at fault have failed.

        Before the first retry the device checks itself, once for each batch: the fault may be its own.
        """
        parts, healthy, cap = [batch], False, self._scheduler.flow_of(batch[0]).max_batch
        on_launch = partial(self._on_launch, device, batch)
        while parts:
            part = [item for item in device.owned(parts.pop()) if self._scheduler.is_pending(item)]
            if not part:
                continue
            outcome = await self._run(part, device, on_launch)
            if isinstance(outcome, RunResult):
                self._resolve(part, outcome)
                continue
            # An item may be too large for any device: no check then.
            if not healthy and not isinstance(outcome, MemoryError):
                healthy = await self._check(device, outcome)
                if not healthy:
                    return
            if len(part) > 1:
                parts += self._split(part, outcome, cap if len(part) == len(batch) else None)
            elif part[0].device is device:
                part[0].resolve(outcome)

    async def _run(
        self, part: list[QueueItem[T, R]], device: Device[T, R], on_launch: Callable[[], None]
    ) -> RunResult[R] | Exception:
        """Run the items on the device; if that takes far too long, other devices take them over meanwhile."""
        for item in part:
            item.dispatched = True
        items, on_hang = [item.item for item in part], partial(self._mark_stuck, device)
        outcome = await device.call(items, self._hang_timeout(), on_hang, on_launch)
        if device.is_working and isinstance(outcome, RunResult):
            self._longest_seconds = max(self._longest_seconds, outcome.seconds)
        elif device.status.state == "stuck" and not device.is_hanging:
            self._set_status(device, WORKING)
        return outcome

    def _hang_timeout(self) -> float:
        """Seconds after which a call that starts now counts as hanging."""
        is_last = sum(device.is_working for device in self._devices) == 1
        timeout = max(self._hang_seconds, HANG_FACTOR * self._longest_seconds)
        return timeout * (LAST_DEVICE_HANG_FACTOR if is_last else 1)

    def _mark_stuck(self, device: Device[T, R]) -> None:
        if device.is_working:
            reason = "a batch has not returned from it; it works again when it does"
            self._set_status(device, DeviceStatus("stuck", reason))
        if self.alive:
            self._requeue(device)

    async def _check(self, device: Device[T, R], error: Exception) -> bool:
        """Whether a device on which a batch failed is healthy; else it is taken out and its items queued."""
        fault = await device.self_check(self._hang_timeout())
        if fault is None or device.is_dead:
            return fault is None
        logger.error("a device is taken out: %s; before, a batch failed: %r", fault, error)
        reason = f"a batch failed with {type(error).__name__}, {fault}; see the log"
        self._set_status(device, DeviceStatus("dead", reason))
        self._requeue(device, error)
        return False

    def _set_status(self, device: Device[T, R], status: DeviceStatus) -> None:
        device.status = status
        number, reason = self._devices.index(device), status.reason or "its batch has returned"
        logger.warning("device %d is %s: %s", number, status.state, reason)
        self._events.working(sum(other.is_working for other in self._devices))
        self._scheduler.notify()

    def _requeue(self, device: Device[T, R], error: Exception | None = None) -> None:
        """Queue a device's items for another one; each only once, as an item may be what breaks devices."""
        for item in device.outstanding:
            if not item.requeued:
                item.requeued, item.device = True, None
                self._scheduler.push(item, HIGHEST)
            elif error is not None:
                item.resolve(error)

    def _resolve(self, part: list[QueueItem[T, R]], run: RunResult[R]) -> None:
        for item, result in zip(part, run.results, strict=True):
            item.resolve(Completed(result, run.began - item.arrived, run.seconds))
        if run.seconds <= self._longest_seconds:  # a call that hung is no measure of a batch's duration
            self._events.batch_done(len(part), run.seconds, self._scheduler.flow_of(part[0]))

    def _split(
        self, part: list[QueueItem[T, R]], error: Exception, whole_of: int | None
    ) -> list[list[QueueItem[T, R]]]:
        """The parts of a failed batch to run next, the most urgent last.

        A whole batch that does not fit into memory halves the cap for good; its parts do not: an item that
        never fits must not shrink all later batches. `whole_of` is the cap as a whole batch began: two that
        fail together halve it once.
        """
        memory, flow = isinstance(error, MemoryError), self._scheduler.flow_of(part[0])
        if memory and whole_of is not None:
            flow.set_max_batch(min(flow.max_batch, whole_of // 2))
        cap = flow.max_batch
        logger.warning("a batch of %d failed and is run in parts, the cap is %d: %r", len(part), cap, error)
        self._events.retried("memory" if memory else "error")
        step = len(part) // 2
        return [part[start : start + step] for start in reversed(range(0, len(part), step))]

    def _on_loop_end(self, device: Device[T, R], task: "asyncio.Task[None]") -> None:
        """Called when a device loop ends: fails its items and logs unexpected errors."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("the batching loop has died", exc_info=error)
            self._set_status(device, DeviceStatus("dead", "its loop has died; see the log"))
        rest = device.outstanding
        if all(loop.done() for loop in self._loops):
            rest += self._scheduler.drain()
        for item in rest:
            item.resolve(Closed("the batcher ended before the answer was ready"))
        self._abandoned += len(rest)
        if not device.is_run:
            device.stop()
