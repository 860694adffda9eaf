"""A device: its threads, the batches that it must answer, and whether it works.

A CPU has one batch at a time. A GPU has up to IN_FLIGHT: while it computes one, the next is launched, so that
it need not wait for the host. A device is `dead` when a batch fails and its own check fails too: then the
batch was not the cause. It is `stuck` while a call takes far too long, and works again once that call has
returned.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from app.batching.item import QueueItem
from app.batching.worker import Run, RunResult, Worker

T = TypeVar("T")
R = TypeVar("R")

DeviceState = Literal["working", "stuck", "dead"]
IN_FLIGHT = 2
STATES: tuple[DeviceState, ...] = ("working", "stuck", "dead")


@dataclass(frozen=True)
class DeviceStatus:
    """The state of a device, and why it does not work; None while it does."""

    state: DeviceState
    reason: str | None = None


WORKING = DeviceStatus("working")


@dataclass(eq=False)
class Device(Generic[T, R]):
    """`run`: items of one key in, a result for each in the same order out; `check` raises if it cannot work.

    Both are called on threads of their own, one call at a time.
    """

    run: Run[T, R]
    check: Callable[[], object] | None = None
    status: DeviceStatus = WORKING
    loops: "list[asyncio.Task[None]]" = field(default_factory=list)  # of the batcher, which run it
    _batches: list[list[QueueItem[T, R]]] = field(default_factory=list)
    _launching: list[QueueItem[T, R]] | None = None
    _calls: int = 0  # that run, whether or not their results are still awaited
    _hanging: int = 0  # of them
    _checking: bool = False
    _worker: Worker[T, R] | None = None

    @property
    def is_working(self) -> bool:
        """Whether it can be given work."""
        return self.status.state == "working"

    @property
    def is_dead(self) -> bool:
        """Whether it never works again."""
        return self.status.state == "dead"

    @property
    def is_free(self) -> bool:
        """Whether it takes another batch: it works, and what it has got is launched or answered."""
        return self.is_working and self._launching is None and not self._checking

    @property
    def is_run(self) -> bool:
        """Whether a loop of the batcher runs it."""
        return not all(loop.done() for loop in self.loops)

    @property
    def is_hanging(self) -> bool:
        """Whether a call takes far too long."""
        return self._hanging > 0

    @property
    def busy(self) -> bool:
        """Whether a thread of it is in a call, even one whose results nobody awaits."""
        return self._calls > 0

    @property
    def outstanding(self) -> list[QueueItem[T, R]]:
        """The items that it must still answer."""
        return [item for batch in self._batches for item in self.owned(batch) if not item.future.done()]

    def owned(self, items: Iterable[QueueItem[T, R]]) -> list[QueueItem[T, R]]:
        """Those of the items that no other device has taken over."""
        return [item for item in items if item.device is self]

    def assign(self, batch: list[QueueItem[T, R]]) -> None:
        """Make the device responsible for the items of a batch."""
        self._batches.append(batch)
        self._launching = batch
        for item in batch:
            item.device = self

    def mark_launched(self, batch: list[QueueItem[T, R]]) -> None:
        """The device computes the batch: it takes the next one."""
        if self._launching is batch:
            self._launching = None

    def finish(self, batch: list[QueueItem[T, R]]) -> None:
        """The batch is over: all its items have their outcome, or wait for another device."""
        self.mark_launched(batch)
        self._batches = [other for other in self._batches if other is not batch]

    def start(self, clock: Callable[[], float]) -> None:
        """Start the threads."""
        self._worker = Worker(self.run, clock)

    async def call(
        self,
        items: list[T],
        hang_timeout: float,
        on_hang: Callable[[], None],
        on_launch: Callable[[], None] = lambda: None,
    ) -> RunResult[R] | Exception:
        """Run the items: their results, or the error; `on_hang` is called after `hang_timeout` seconds.

        `on_launch` is called once the device computes them and their results are read on another thread.
        """
        if self._worker is None:
            raise RuntimeError("a device runs only once it is started")
        hangs = 0

        def hang() -> None:
            nonlocal hangs
            hangs = 1
            self._hanging += 1
            on_hang()

        self._calls += 1
        timer = asyncio.get_running_loop().call_later(hang_timeout, hang)
        try:
            outcome = await self._worker.call(items, on_launch)
        finally:
            timer.cancel()
            self._hanging -= hangs
        self._calls -= 1  # not when cancelled: the thread is still in the call
        return outcome

    async def self_check(self, hang_timeout: float) -> str | None:
        """Run the device's own check for at most `hang_timeout` seconds: what failed, else None."""
        if self.check is None:
            return None
        check = self.check
        checker: Worker[None, Any] = Worker(lambda _: [check()], lambda: 0.0)
        self._calls += 1
        self._checking = True
        try:
            async with asyncio.timeout(hang_timeout):
                outcome = await checker.call([None])
        except TimeoutError:
            return "its check did not end"
        finally:
            self._checking = False
            checker.stop()
        self._calls -= 1
        return None if isinstance(outcome, RunResult) else f"its check failed with {type(outcome).__name__}"

    def stop(self) -> None:
        """Let the threads end after the calls that they are in, if any."""
        if self._worker is not None:
            self._worker.stop()

    def join(self) -> None:
        """Wait for the end of the threads: quick when they were idle as they were stopped."""
        if self._worker is not None:
            self._worker.join()
