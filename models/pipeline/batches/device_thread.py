"""The thread of a detector on a GPU: its warm-up runs there, and every batch.

cuDNN's plans and cuBLAS's workspaces belong to a thread: what another one has warmed up would be made again
in the first batches. It also keeps what two threads ask for at once, such as the next batch and a part of
the last one that has to run again, one after the other.
"""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_Task = tuple[Callable[[], Any], "Future[Any]"]


class CallOnThread(Protocol):
    """Calls a function on the thread of a device."""

    def __call__(self, function: Callable[[], T]) -> T:
        """What the function returns or raises."""


class DeviceThread:
    """Calls functions on a thread of its own; the thread ends with this object, or with the process."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(self._tasks,), name="device", daemon=True)
        self._thread.start()
        weakref.finalize(self, self._tasks.put, None)

    def __call__(self, function: Callable[[], T]) -> T:
        """What the function returns or raises."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = Future()
        self._tasks.put((function, future))
        try:
            return future.result()
        finally:
            del future  # an error refers to this frame


def same_thread(function: Callable[[], T]) -> T:
    """Call it at once: what a CPU does."""
    return function()


def _work(tasks: "SimpleQueue[_Task | None]") -> None:
    while (task := tasks.get()) is not None:
        function, future = task
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            future.set_exception(error)
        del task, function, future  # an idle thread holds no batch
