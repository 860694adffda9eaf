"""The thread on which a device runs its batches, so that the event loop never blocks."""

import asyncio
import contextlib
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


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


class Worker(Generic[T, R]):
    """Calls `run` on a thread of its own, one call at a time.

    The thread is a daemon: a device that hangs cannot keep the process from ending. What `run` raises is
    returned: not every exception can travel in a future (StopIteration cannot, SystemExit ends the loop).
    """

    def __init__(self, run: Callable[[list[T]], list[R]], clock: Callable[[], float]) -> None:
        self._run = run
        self._clock = clock
        self._jobs: SimpleQueue[tuple[list[T], asyncio.Future[RunResult[R] | Exception]] | None] = (
            SimpleQueue()
        )
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    async def call(self, items: list[T]) -> RunResult[R] | Exception:
        """Run the items on the thread: their results, or the error."""
        future: asyncio.Future[RunResult[R] | Exception] = asyncio.get_running_loop().create_future()
        self._jobs.put((items, future))
        return await future

    def stop(self) -> None:
        """Let the thread end after the call that it is in, if any."""
        self._jobs.put(None)

    @property
    def alive(self) -> bool:
        """Whether the thread has not ended."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait for the end of the thread: quick when it was idle as it was stopped."""
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            items, future = job
            with contextlib.suppress(RuntimeError):  # the event loop has closed
                future.get_loop().call_soon_threadsafe(_set_result, future, self._attempt(items))
            del job, items, future  # an idle thread holds no item, and an error no future

    def _attempt(self, items: list[T]) -> RunResult[R] | Exception:
        count = len(items)
        try:
            began = self._clock()
            results = self._run(items)
            ended = self._clock()
            if len(results) != count:
                raise RuntimeError(
                    f"run returned {len(results)} results for {count} items; expected one for each"
                )
            return RunResult(results, began, ended)
        except BaseException as error:  # noqa: BLE001 - SystemExit too fails this batch alone
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
