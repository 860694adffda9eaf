"""Models that no longer serve: each stays in memory until it has answered the requests that it has begun.

Nothing counts these requests: they hold the model, and when the last one is over it is freed.
"""

import asyncio
import contextlib
import gc
import logging
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from app.serving.model import LoadedModel

COLLECT_SECONDS = 5.0  # between garbage collections: the traceback of an error may hold a model in a cycle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Name and version of a model, as answers show them."""

    name: str
    version: str

    @classmethod
    def of(cls, model: LoadedModel) -> "Identity":
        """The identity of a model, without holding the model."""
        return cls(model.name, model.version)

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


class Releases:
    """Waits for the end of models; called on the event loop's thread."""

    def __init__(self, seconds: float, free: Callable[[], None], released: Callable[[], None]) -> None:
        """`seconds`: after which a held model is logged and no longer waited for.

        `free` returns the memory that a model left in pools, on a thread; `released` is called after it.
        """
        self._seconds = seconds
        self._free = free
        self._released = released
        self._tasks: dict[asyncio.Task[None], Identity] = {}

    @property
    def pending(self) -> list[Identity]:
        """The models that still answer what they have begun."""
        return list(self._tasks.values())

    def begin(self, model: LoadedModel) -> None:
        """Watch a model that no new request gets any more."""
        event = asyncio.Event()
        weakref.finalize(model, _notify, asyncio.get_running_loop(), event).atexit = False
        identity = Identity.of(model)
        task = asyncio.create_task(self._watch(identity, event), name="release")
        self._tasks[task] = identity
        task.add_done_callback(self._forget)

    async def wait(self) -> None:
        """Wait until none is pending."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def stop(self) -> None:
        """Wait for none of them any more."""
        for task in list(self._tasks):
            task.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._released()

    async def _watch(self, model: Identity, event: asyncio.Event) -> None:
        began = time.monotonic()
        while not event.is_set() and time.monotonic() - began < self._seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COLLECT_SECONDS):
                    await event.wait()
            if not event.is_set():
                gc.collect()
        if event.is_set():
            await asyncio.to_thread(self._free)
            logger.info("%s was released %.1f s after the switch", model, time.monotonic() - began)
        else:
            logger.warning("%s is still held %.0f s after the switch", model, time.monotonic() - began)


def _notify(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set the event, from the thread on which the model was freed."""
    with contextlib.suppress(RuntimeError):  # the event loop has closed
        loop.call_soon_threadsafe(event.set)
