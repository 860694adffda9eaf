"""Many frames of one caller: read no faster than they are answered, each let in by the door like any request.

A stream holds one place of RCNN_MAX_STREAMS, and at most two frames: the one that is detected, and for live
pictures the newest that waits. An older one that waits gives way to it and is counted.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from app.errors import (
    Draining,
    Failing,
    Internal,
    Loading,
    Overloaded,
    ServiceError,
    UnsupportedMediaType,
    from_image_error,
)
from app.schemas.options import DetectOptions
from app.serving.request import DrawnFormat, Outcome, Plan
from app.serving.service import DetectionService
from app.telemetry.metrics import Metrics
from models.images.decoder import ImageError, Limits
from models.images.frames import Frame, NoVideo, read_frames

T = TypeVar("T")
FATAL = (Draining, Failing, Loading)
"""What no later frame of the stream would escape either."""

RETRY_SECONDS = 5.0  # after which a place may be free: nobody knows how long a stream lasts
logger = logging.getLogger(__name__)


class StreamSlots:
    """The streams that are open, of so many that may be."""

    def __init__(self, at_most: int, metrics: Metrics) -> None:
        self._at_most = at_most
        self._metrics = metrics
        self._open = 0

    @contextmanager
    def one(self, route: str) -> Iterator[None]:
        """A place, held as long as the stream is open; raises Overloaded when there is none."""
        if self._open >= self._at_most:
            raise Overloaded(
                f"{self._open} streams are open, {self._at_most} may be; try later", RETRY_SECONDS
            )
        self._open += 1
        self._metrics.streams.labels(route=route).inc()
        try:
            yield
        finally:
            self._open -= 1
            self._metrics.streams.labels(route=route).dec()


class LatestFrame(Generic[T]):
    """A place for one: whoever comes while another waits takes its place."""

    def __init__(self) -> None:
        self._waiting: T | None = None
        self._there = asyncio.Event()
        self.dropped = 0

    def put(self, item: T) -> bool:
        """Let an item wait; True where another has gone for it."""
        replaced = self._waiting is not None
        self.dropped += replaced
        self._waiting = item
        self._there.set()
        return replaced

    async def wait(self) -> None:
        """Wait until there is one."""
        await self._there.wait()

    def take(self) -> T:
        """The one that waits; raises LookupError where there is none."""
        item, self._waiting = self._waiting, None
        self._there.clear()
        if item is None:
            raise LookupError("nothing waits")
        return item


@dataclass(frozen=True)
class StreamSpec:
    """What is to be done with the frames of a file: every `every`-th, `at_most` of them."""

    options: DetectOptions
    every: int
    at_most: int
    draw: DrawnFormat | None = None


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What came of one frame; `index` counts the skipped ones too."""

    index: int
    seconds: float | None
    outcome: Outcome | ServiceError


@dataclass(frozen=True)
class EndOfStream:
    """Why there are no more answers."""

    reason: Literal["complete", "max_frames", "error"]


async def detect_frames(
    service: DetectionService, data: bytes, order: StreamSpec
) -> AsyncGenerator[FrameResult | EndOfStream, None]:
    """The answers of a file's frames, each frame decoded when the one before has been taken; then an End."""
    frames = read_frames(data, Limits(service.settings.max_pixels), order.every)
    index = answered = 0
    while True:
        plan = service.plan(order.options, time.monotonic(), order.draw)
        found = await outcome_of(_next(service, frames, plan))
        if isinstance(found, ServiceError):
            yield FrameResult(index, None, found)
            yield EndOfStream("error")
            return
        if found is None or answered == order.at_most:
            yield EndOfStream("complete" if found is None else "max_frames")
            return
        outcome = await outcome_of(_detect(service, found, plan))
        yield FrameResult(found.index, found.seconds, outcome)
        if isinstance(outcome, FATAL):
            yield EndOfStream("error")
            return
        index, answered = found.index + order.every, answered + 1


async def outcome_of(work: Awaitable[T]) -> T | ServiceError:
    """What becomes of the work for one frame: a fault of ours is logged and told as Internal."""
    (found,) = await asyncio.gather(work, return_exceptions=True)
    if isinstance(found, ServiceError) or not isinstance(found, BaseException):
        return found
    logger.error("a frame failed", exc_info=found)
    return Internal("an error of the service; its log has the reason under this request's id")


async def _next(service: DetectionService, frames: Iterator[Frame], plan: Plan) -> Frame | None:
    """The next frame, None behind the last one; decoded on a thread."""
    try:
        return await service.on_thread(plan, next, frames, None)
    except NoVideo as error:
        raise UnsupportedMediaType(str(error)) from error
    except ImageError as error:
        raise from_image_error(error) from error


async def _detect(service: DetectionService, frame: Frame, plan: Plan) -> Outcome:
    """As the service does; a frame for which there is no place waits for one while it has time."""
    while True:
        try:
            return await service.pipeline.detect(frame.pixels, plan)
        except Overloaded as error:
            pause = error.retry_after or 1.0
            if pause >= plan.seconds_left():
                raise
            await asyncio.sleep(pause)
