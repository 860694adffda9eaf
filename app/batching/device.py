"""A device: its thread, the batch that it must answer, and whether it works.

A device is `dead` when a batch fails and its own check fails too: then the batch was not the cause. It is
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
    """The state of a device, and why it does not work; None while it does."""

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
    status: DeviceStatus = WORKING
    batch: list[QueueItem[T, R]] = field(default_factory=list)
    busy: bool = False  # a call is running, whether or not its result is still awaited
    _worker: Worker[T, R] | None = None

    @property
    def is_working(self) -> bool:
        """Whether it can be given work."""
        return self.status.state == "working"

    @property
    def outstanding(self) -> list[QueueItem[T, R]]:
        """The items that it must still answer."""
        return [item for item in self.batch if item.device is self and not item.future.done()]

    def assign(self, batch: list[QueueItem[T, R]]) -> None:
        """Make the device responsible for the items of a batch."""
        self.batch = batch
        for item in batch:
            item.device = self

    def start(self, clock: Callable[[], float]) -> None:
        """Start the thread."""
        self._worker = Worker(self.run, clock)

    async def call(
        self, items: list[T], hang_timeout: float, on_hang: Callable[[], None]
    ) -> RunResult[R] | Exception:
        """Run the items: their results, or the error; `on_hang` is called after `hang_timeout` seconds."""
        if self._worker is None:
            raise RuntimeError("a device runs only once it is started")
        self.busy = True
        timer = asyncio.get_running_loop().call_later(hang_timeout, on_hang)
        try:
            outcome = await self._worker.call(items)
        finally:
            timer.cancel()
        self.busy = False  # not when cancelled: the thread is still in the call
        return outcome

    async def self_check(self, hang_timeout: float) -> str | None:
        """Run the device's own check for at most `hang_timeout` seconds: what failed, else None."""
        if self.check is None:
            return None
        check = self.check
        checker: Worker[None, Any] = Worker(lambda _: [check()], lambda: 0.0)
        self.busy = True
        try:
            async with asyncio.timeout(hang_timeout):
                outcome = await checker.call([None])
        except TimeoutError:
            return "its check did not end"
        finally:
            checker.stop()
        self.busy = False
        return None if isinstance(outcome, RunResult) else f"its check failed with {type(outcome).__name__}"

    def stop(self) -> None:
        """Let the thread end after the call that it is in, if any."""
        if self._worker is not None:
            self._worker.stop()

    def join(self) -> None:
        """Wait for the end of the thread: quick when it was idle as it was stopped."""
        if self._worker is not None:
            self._worker.join()
