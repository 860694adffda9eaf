"""The threads on which images are decoded. A thread cannot be ended: one that was given up is counted."""

import asyncio
import contextlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from app.batching.item import RequestHandle
from app.errors import RETRY_SECONDS, DeadlineExceeded, Overloaded
from app.serving.decode_memory import DecodeMemory, Grow, Reservation
from app.serving.request import Plan
from app.telemetry.metrics import Metrics
from models.images.control import DecodeControl
from models.images.decoder import OutOfMemory

P = ParamSpec("P")
R = TypeVar("R")

DECODE_NICENESS = 10  # added to the niceness of decode threads
logger = logging.getLogger(__name__)


class DecodeThreads:
    """Runs work on a fixed number of threads, each piece within its request's time."""

    def __init__(self, threads: int, memory: DecodeMemory, metrics: Metrics) -> None:
        self._metrics = metrics
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "decode", lower_priority)
        self._memory = memory
        self._abandoned = set[Future[Any]]()
        metrics.abandoned_decodes.set_function(lambda: len(self._abandoned))

    def close(self) -> None:
        """Start no new work; does not wait for running work."""
        self._pool.shutdown(wait=False)

    def check(self) -> None:
        """Raise Overloaded while every thread works for a request that is over."""
        if len(self._abandoned) >= self._threads:
            raise Overloaded(
                f"all {self._threads} decode threads work on images of requests that are over; "
                f"try again in {RETRY_SECONDS:.0f} s",
                RETRY_SECONDS,
            )

    async def decode(
        self, plan: Plan, request: RequestHandle, grow: Grow, work: Callable[[DecodeControl], R]
    ) -> R:
        """As `run`, for a decode: it reserves its memory by `grow`, and stops when the request is over."""
        self.check()
        reservation = Reservation(self._memory, grow, plan.seconds_left())
        try:
            return await self.run(plan, request, work, reservation)
        finally:
            reservation.stop()

    async def run(
        self, plan: Plan, request: RequestHandle, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run work on a thread within the plan's time; raises DeadlineExceeded or Overloaded."""
        future = self._pool.submit(_without_frames, partial(work, *args, **kwargs))
        try:
            async with asyncio.timeout(plan.seconds_left()):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            if request.mark_finished():
                self._metrics.deadline_exceeded.inc()
            raise deadline_exceeded() from error
        except (OutOfMemory, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "not enough memory" not in str(error):  # as torch puts it
                raise
            raise self._out_of_memory(error) from error
        finally:
            if not future.done() and not future.cancel():
                self._abandoned.add(future)
                future.add_done_callback(self._abandoned.discard)
            del future  # its error refers to this frame: a cycle, which the collector would end much later

    def _out_of_memory(self, error: Exception) -> Overloaded:
        """The error of a request that the server has too little memory for; logged and counted."""
        self._metrics.memory_errors.inc()
        logger.error("too little memory to prepare an image: %s", str(error) or type(error).__name__)
        detail = str(error) if isinstance(error, OutOfMemory) else "the server has too little memory now"
        return Overloaded(f"{detail}; try again in {RETRY_SECONDS:.0f} s", RETRY_SECONDS)


def _without_frames(work: Callable[[], R]) -> R:
    """Do the work; an error of it holds no local variables, such as the pixels, as long as it is kept."""
    try:
        return work()
    finally:
        error = sys.exception()
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            error = error.__cause__


def lower_priority() -> None:
    """Lower the priority of this decode thread: preempting an inference thread stalls its whole batch.

    On two cores this gave a seventh more images a second. Decoding uses the time in which a core is idle.
    """
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            niceness = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(19, niceness + DECODE_NICENESS))


def deadline_exceeded() -> DeadlineExceeded:
    """The error of a request whose deadline has passed."""
    return DeadlineExceeded(
        "the request's time ran out before its answer; send it again later, or raise timeout_ms"
    )
