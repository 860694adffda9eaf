"""The threads on which a device runs its batches, so that the event loop never blocks.

A CPU computes a batch inside the call of `run`. A GPU computes on after it: `run` returns Launched, whose
results a second thread waits for, so that the first can launch the next batch meanwhile.
"""

import asyncio
import contextlib
import math
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


@dataclass(frozen=True)
class RunResult(Generic[R]):
    """A successful call: one result for each item, and when it began and ended (on the clock)."""

    results: list[R]
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long the call took."""
        return self.ended - self.began


@dataclass(frozen=True, eq=False)
class Launched(Generic[R]):
    """A batch that its device computes on its own from now on; `read` waits for the results."""

    read: Callable[[], list[R]]


Run = Callable[[list[T]], list[R] | Launched[R]]
"""Items of one key in, a result for each in the same order out, at once or Launched."""


@dataclass(frozen=True, eq=False)
class _Call(Generic[T, R]):
    """One call of `run`; `on_launch` is called on the event loop if its results are read later."""

    items: list[T]
    future: "asyncio.Future[RunResult[R] | Exception]"
    on_launch: Callable[[], None]

    def post(self, function: Callable[..., None], *arguments: object) -> None:
        """Call the function on the event loop's thread."""
        with contextlib.suppress(RuntimeError):  # the event loop has closed
            self.future.get_loop().call_soon_threadsafe(function, *arguments)


@dataclass(frozen=True, eq=False)
class _Pending(Generic[T, R]):
    """A call that was launched, and when it began."""

    call: _Call[T, R]
    launched: Launched[R]
    began: float


class Worker(Generic[T, R]):
    """Calls `run` on a thread of its own, one call at a time, and reads what it launched on another one.

    The threads are daemons: a device that hangs cannot keep the process from ending. What `run` raises is
    returned: not every exception can travel in a future (StopIteration cannot, SystemExit ends the loop).
    """

    def __init__(self, run: Run[T, R], clock: Callable[[], float]) -> None:
        self._run = run
        self._clock = clock
        self._calls: SimpleQueue[_Call[T, R] | None] = SimpleQueue()
        self._pending: SimpleQueue[_Pending[T, R] | None] = SimpleQueue()
        self._last_end = -math.inf  # when the last launched batch did
        self._threads = [_started(self._work)]

    async def call(
        self, items: list[T], on_launch: Callable[[], None] = lambda: None
    ) -> RunResult[R] | Exception:
        """Run the items on the thread: their results, or the error."""
        future: asyncio.Future[RunResult[R] | Exception] = asyncio.get_running_loop().create_future()
        self._calls.put(_Call(items, future, on_launch))
        return await future

    def stop(self) -> None:
        """Let the threads end after the calls that they are in, if any."""
        self._calls.put(None)

    @property
    def alive(self) -> bool:
        """Whether a thread has not ended."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait for the end of the threads: quick when they were idle as they were stopped."""
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            outcome = _attempt(partial(self._launch, call))
            if isinstance(outcome, _Pending):
                self._read_later(outcome)
            else:
                call.post(_set_result, call.future, outcome)
            del call, outcome  # an idle thread holds no item, and an error no future
        self._pending.put(None)

    def _launch(self, call: _Call[T, R]) -> "RunResult[R] | _Pending[T, R]":
        began = self._clock()
        results = self._run(call.items)
        if isinstance(results, Launched):
            return _Pending(call, results, began)
        return self._checked(results, call, began)

    def _read_later(self, pending: _Pending[T, R]) -> None:
        if len(self._threads) == 1:
            self._threads.append(_started(self._read_all))
        pending.call.post(pending.call.on_launch)  # first: the results must not come before it
        self._pending.put(pending)

    def _read_all(self) -> None:
        """Read the results of what was launched, in this order."""
        while (pending := self._pending.get()) is not None:
            outcome = _attempt(partial(self._read, pending))
            self._last_end = self._clock()
            pending.call.post(_set_result, pending.call.future, outcome)
            del pending, outcome  # as above

    def _read(self, pending: _Pending[T, R]) -> RunResult[R]:
        """The results; the device began with them when the batch before had ended."""
        results = pending.launched.read()
        return self._checked(results, pending.call, max(pending.began, self._last_end))

    def _checked(self, results: list[R], call: _Call[T, R], began: float) -> RunResult[R]:
        ended, count = self._clock(), len(call.items)
        if len(results) != count:
            raise RuntimeError(
                f"run returned {len(results)} results for {count} items; expected one for each"
            )
        return RunResult(results, began, ended)


def _started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name="batcher", daemon=True)
    thread.start()
    return thread


def _attempt(work: Callable[[], S]) -> S | Exception:
    """What the work returns, or its error without what the frames of the error hold."""
    try:
        return work()
    except BaseException as error:  # noqa: BLE001 - SystemExit too fails this batch alone
        del work  # it holds the call, whose future will hold the error: a cycle
        _clear_frames(error)
        return error if isinstance(error, Exception) else RuntimeError(f"run raised {error!r}")


def _set_result(
    future: "asyncio.Future[RunResult[R] | Exception]", outcome: RunResult[R] | Exception
) -> None:
    if not future.done():
        future.set_result(outcome)


def _clear_frames(error: BaseException) -> None:
    """Free what an error's frames hold: on a GPU, the memory that the retry in halves needs."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        traceback.clear_frames(cause.__traceback__)
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
