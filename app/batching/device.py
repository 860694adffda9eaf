"""A device: its thread, the batch it owes answers to, and whether it still works.

A device is `dead` when a batch fails and its own check fails too: then the batch was not at fault. It is
`stuck` while a call takes far too long, and works again once that call has returned.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from app.batching.item import QueueItem
from app.batching.worker import RunResult, Worker

T = TypeVar("T")
R = TypeVar("R")

DeviceState = Literal["working", "stuck", "dead"]
STATES: tuple[DeviceState, ...] = ("working", "stuck", "dead")


@dataclass(frozen=True)
class DeviceStatus:
    """How a device fares, and why it does not work; None while it does."""

    state: DeviceState
    reason: str | None = None


WORKING = DeviceStatus("working")


@dataclass(eq=False)
class Device(Generic[T, R]):
    """`run`: items of one key in, a result for each in the same order out; `check` raises if it cannot work.

    Both are called on threads of their own, one call at a time.
    """

    run: Callable[[list[T]], list[R]]
    check: Callable[[], object] | None = None
    condition: DeviceStatus = WORKING
    batch: list[QueueItem[T, R]] = field(default_factory=list)
    busy: bool = False  # a call is under way, whether or not anybody waits for it
    _worker: Worker[T, R] | None = None

    @property
    def works(self) -> bool:
        """Whether it can be given work."""
        return self.condition.state == "working"

    @property
    def owed(self) -> list[QueueItem[T, R]]:
        """Who waits for its answer."""
        return [waiter for waiter in self.batch if waiter.device is self and not waiter.future.done()]

    def take(self, batch: list[QueueItem[T, R]]) -> None:
        """Owe each of a batch an answer from now on."""
        self.batch = batch
        for waiter in batch:
            waiter.device = self

    def start(self, clock: Callable[[], float]) -> None:
        """Start the thread."""
        self._worker = Worker(self.run, clock)

    async def call(
        self, items: list[T], patience: float, late: Callable[[], None]
    ) -> RunResult[R] | Exception:
        """Run the items: their results, or what went wrong; `late` is called if it takes longer."""
        if self._worker is None:
            raise RuntimeError("a device runs only once it is started")
        self.busy = True
        timer = asyncio.get_running_loop().call_later(patience, late)
        try:
            outcome = await self._worker.call(items)
        finally:
            timer.cancel()
        self.busy = False  # not when cancelled: the thread is still in the call
        return outcome

    async def fault(self, patience: float) -> str | None:
        """What its own check says, at most so many seconds; None when it works."""
        if self.check is None:
            return None
        check = self.check
        checker: Worker[None, Any] = Worker(lambda _: [check()], lambda: 0.0)
        self.busy = True
        try:
            async with asyncio.timeout(patience):
                outcome = await checker.call([None])
        except TimeoutError:
            return "its check did not end"
        finally:
            checker.stop()
        self.busy = False
        return None if isinstance(outcome, RunResult) else f"its check with {type(outcome).__name__}"

    def stop(self) -> None:
        """Let the thread end after the call that it is in, if any."""
        if self._worker is not None:
            self._worker.stop()

    def join(self) -> None:
        """Wait for the end of the thread: quick when it was idle as it was stopped."""
        if self._worker is not None:
            self._worker.join()
