"""Batches: callers submit one item each, one loop groups them, one thread runs them. No torch, no HTTP.

    submit ─► GroupedQueue (by key, most urgent first) ─► loop: a batch whenever the device is free ─► Worker
      ▲                                                                                                 │
      └──────────── exactly one outcome each: Answered, or an exception as a value ◄────────────────────┘

A batch is formed when the device is free, of the group that holds the most urgent item of all, never of two.
`run` alone is called on another thread; all else is on the event loop, where nothing changes between awaits.
Outcomes travel as values, not as exceptions in futures: none is lost or logged twice, none can stop the loop.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.caller import Caller
from app.grouped_queue import GroupedQueue
from app.worker import Ran, Worker

T = TypeVar("T")
R = TypeVar("R")
logger = logging.getLogger(__name__)

_LATE = "the deadline passed before the answer was ready"


class Expired(TimeoutError):
    """The item's deadline passed before its answer was ready."""


class Closed(RuntimeError):
    """The batcher does not answer: it was not started, is closed or closing, or its loop has died."""


@dataclass(frozen=True)
class BatchLimits:
    """Most items in a batch; seconds for which a smaller batch may be held while the device is free."""

    max_batch: int
    wait_seconds: float = 0.0


@dataclass(frozen=True)
class BatchEvents:
    """What the batcher tells about its work; each is called on the event loop's thread."""

    batch_done: Callable[[int, float], None]  # size and seconds of a batch that gave answers
    retried: Callable[[str], None]  # a failed batch is run again in parts; the reason: "memory" or "error"
    cancelled: Callable[[], None]  # a caller went away before its item reached the device
    expired: Callable[[], None]  # a deadline passed, in the queue or on the device


@dataclass(frozen=True)
class Answered(Generic[R]):
    """A result; seconds from `submit` to the beginning of the batch that gave it; seconds that batch ran."""

    result: R
    queued: float
    ran: float


@dataclass(eq=False)
class _Waiter(Generic[T, R]):
    """One item of a caller, and the future that takes its one outcome."""

    item: T
    deadline: float
    arrived: float
    future: "asyncio.Future[Answered[R] | Exception]"
    reached_device: bool = False

    def answer(self, outcome: Answered[R] | Exception) -> None:
        """Give the outcome, unless the caller has one already or has gone: the first is the only one."""
        if not self.future.done():
            self.future.set_result(outcome)


class Batcher(Generic[T, R]):
    """Answers items in batches: `submit` from any number of tasks, one call of `run` at a time."""

    def __init__(
        self,
        run: Callable[[list[T]], list[R]],
        limits: BatchLimits,
        events: BatchEvents,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`run`: items of one key in, one result for each in the same order out; called on its own thread."""
        self._run = run
        self._max_batch = max(1, limits.max_batch)
        self._wait_seconds = limits.wait_seconds
        self._events = events
        self._clock = clock
        self._queue: GroupedQueue[_Waiter[T, R]] = GroupedQueue()
        self._on_device: list[_Waiter[T, R]] = []
        self._changed = asyncio.Event()
        self._closing = False
        self._abandoned = 0
        self._last_seconds = math.inf  # how long a batch takes: before the first one nobody knows
        self._worker: Worker[T, R] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Items that wait; those on the device are not among them."""
        return len(self._queue)

    @property
    def alive(self) -> bool:
        """Whether the loop runs: False before `start`, after `close`, and once it has died."""
        return self._task is not None and not self._task.done()

    @property
    def max_batch(self) -> int:
        """Most items in a batch now; a batch that does not fit into memory lowers it."""
        return self._max_batch

    def limit(self, max_batch: int) -> None:
        """Set the most items in a batch; at least 1."""
        self._max_batch = max(1, max_batch)

    async def start(self) -> None:
        """Start the thread and the loop, once."""
        if self._task is not None:
            raise RuntimeError("a batcher starts only once; make a new one")
        self._worker = Worker(self._run, self._clock)
        self._task = asyncio.create_task(self._loop(self._worker), name="batcher")
        self._task.add_done_callback(self._ended)

    async def submit(
        self, item: T, key: Hashable, deadline: float, caller: Caller | None = None
    ) -> Answered[R]:
        """Answer an item by its deadline (on the clock); raises Expired, Closed, or what `run` raised."""
        if self._closing or not self.alive:
            raise Closed("the batcher takes no items: it is closing or does not run")
        caller = caller or Caller()
        outcome = await self._outcome(item, key, deadline, caller)
        if isinstance(outcome, Answered):
            return outcome
        if caller.first() and isinstance(outcome, Expired):
            self._events.expired()
        try:
            raise outcome
        finally:
            del outcome  # an error's traceback holds this frame: held by it in turn, the item would stay

    async def close(self, drain_seconds: float) -> bool:
        """Take nothing new, answer what waits within the time, fail the rest.

        True when there was no rest and the thread has ended; a call of `run` that outlasts the time is not
        waited for, and its thread ends with it.
        """
        self._closing = True
        self._changed.set()
        if self._task is None or self._worker is None:
            return True
        await asyncio.wait({self._task}, timeout=drain_seconds)
        self._task.cancel()
        await asyncio.wait({self._task})
        if self._on_device:
            return False
        self._worker.join()
        return self._abandoned == 0

    async def _outcome(
        self, item: T, key: Hashable, deadline: float, caller: Caller
    ) -> Answered[R] | Exception:
        """Queue a caller and wait for what becomes of it; it leaves the queue whatever that is."""
        loop, now = asyncio.get_running_loop(), self._clock()
        waiter: _Waiter[T, R] = _Waiter(item, deadline, now, loop.create_future())
        place = self._queue.push(waiter, key, deadline)
        self._changed.set()
        timer = loop.call_later(deadline - now, waiter.answer, Expired(_LATE))
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if not waiter.reached_device and caller.first():
                self._events.cancelled()
            raise
        finally:
            timer.cancel()
            self._queue.discard(place)

    async def _loop(self, worker: Worker[T, R]) -> None:
        """One batch after the other until closed and empty; what goes wrong with one ends that one alone."""
        while (batch := await self._next_batch()) is not None:
            self._on_device = batch
            try:
                await self._serve(batch, worker)
            except Exception as error:
                logger.exception("a batch could not be served")
                for waiter in batch:
                    waiter.answer(error)
            self._on_device = []
            del batch  # an idle loop keeps no items

    async def _next_batch(self) -> list[_Waiter[T, R]] | None:
        """Wait until a batch should begin, and form it only then; None once closing and empty."""
        until = math.inf
        while True:
            head = self._queue.head()
            if head is None and self._closing:
                return None
            if head is None:
                await self._change(None)
                continue
            key, waiter = head
            until = min(until, self._latest_begin(waiter))  # newcomers may shorten a hold, never prolong it
            hold = until - self._clock()
            if hold <= 0 or self._closing or self._queue.size(key) >= self._max_batch:
                return self._form(key)
            del head, key, waiter  # a loop that waits holds no items
            await self._change(hold)

    def _latest_begin(self, head: _Waiter[T, R]) -> float:
        """Until when a batch may be held for company: at most half of what its deadline can spare."""
        now = self._clock()
        spare = head.deadline - now - self._last_seconds
        return min(head.arrived + self._wait_seconds, now + spare / 2)

    async def _change(self, seconds: float | None) -> None:
        """Wait for a newcomer or for closing, at most `seconds`."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _form(self, key: Hashable) -> list[_Waiter[T, R]]:
        """Up to `max_batch` of a group, the most urgent first, without callers who have gone or are late."""
        batch: list[_Waiter[T, R]] = []
        while len(batch) < self._max_batch and (waiter := self._queue.pop(key)) is not None:
            if self._wanted(waiter):
                batch.append(waiter)
        return batch

    def _wanted(self, waiter: _Waiter[T, R]) -> bool:
        """Whether the caller still waits; one whose time is up hears it now, should its timer be late."""
        if waiter.deadline <= self._clock():
            waiter.answer(Expired(_LATE))
        return not waiter.future.done()

    async def _serve(self, batch: list[_Waiter[T, R]], worker: Worker[T, R]) -> None:
        """Run a batch; a part that fails is run again in halves, until the culprits alone have failed."""
        parts = [batch]
        while parts:
            part = [waiter for waiter in parts.pop() if self._wanted(waiter)]
            if not part:
                continue
            for waiter in part:
                waiter.reached_device = True
            outcome = await worker.call([waiter.item for waiter in part])
            if isinstance(outcome, Ran):
                self._answer(part, outcome)
            elif len(part) == 1:
                part[0].answer(outcome)
            else:
                parts += self._split(part, outcome, whole=len(part) == len(batch))

    def _answer(self, part: list[_Waiter[T, R]], ran: Ran[R]) -> None:
        self._last_seconds = ran.seconds
        for waiter, result in zip(part, ran.results, strict=True):
            waiter.answer(Answered(result, ran.began - waiter.arrived, ran.seconds))
        self._events.batch_done(len(part), ran.seconds)

    def _split(
        self, part: list[_Waiter[T, R]], error: Exception, *, whole: bool
    ) -> list[list[_Waiter[T, R]]]:
        """The parts of a failed batch that are run next, the most urgent last.

        A whole batch that does not fit halves the cap for good, its parts do not: where one item never fits,
        every part that holds it fails, and that item must not cost all others their batches.
        """
        memory = isinstance(error, MemoryError)
        if memory and whole:
            self.limit(self._max_batch // 2)
        logger.warning(
            "a batch of %d failed and is run in parts, the cap is %d: %r", len(part), self._max_batch, error
        )
        self._events.retried("memory" if memory else "error")
        step = len(part) // 2
        return [part[start : start + step] for start in reversed(range(0, len(part), step))]

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """The loop is over: whoever still waits hears it; the reason is logged unless `close` ended it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("the batching loop has died", exc_info=error)
        rest = [waiter for waiter in (*self._on_device, *self._queue.drain()) if not waiter.future.done()]
        for waiter in rest:
            waiter.answer(Closed("the batcher ended before the answer was ready"))
        self._abandoned = len(rest)
        if self._worker is not None:
            self._worker.stop()
