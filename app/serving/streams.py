"""Streams of frames: read no faster than they are answered, each frame admitted like any request.

A stream holds one slot of RCNN_MAX_STREAMS, and at most two frames: the one in the pipeline, and for a live
stream the newest one received. It replaces an older one, which is counted as dropped.
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
    InvalidParameter,
    Loading,
    Overloaded,
    ServiceError,
    UnknownModel,
    UnsupportedMediaType,
    from_image_error,
)
from app.schemas.options import DetectOptions
from app.serving.request import DrawnFormat, Outcome, Plan
from app.serving.service import DetectionService
from app.telemetry.metrics import Metrics
from models.images.control import UNCONTROLLED, DecodeControl
from models.images.decoder import ImageError, Limits
from models.images.video.frames import Frame, VideoUnavailable, frame_steps

T = TypeVar("T")
FATAL = (Draining, Failing, Loading, UnknownModel)
"""Errors that every later frame of the stream would meet too."""

MAX_FRAMES = 1000  # of one body: a stream holds its slot, and a video of 20 MB can have 100,000 frames
PIXELS_BETWEEN_FRAMES = 10  # times RCNN_MAX_PIXELS: decoded between two answers, a few seconds
RETRY_SECONDS = 5.0  # after which a slot may be free: the length of a stream is unknown
logger = logging.getLogger(__name__)


class StreamSlots:
    """Bounds and counts the open streams."""

    def __init__(self, max_streams: int, metrics: Metrics) -> None:
        self._max_streams = max_streams
        self._metrics = metrics
        self._open = 0

    @contextmanager
    def hold(self, route: str) -> Iterator[None]:
        """Hold a slot as long as the stream is open; raises Overloaded when none is free."""
        if self._open >= self._max_streams:
            raise Overloaded(
                f"{self._open} streams are open, {self._max_streams} are allowed; try later", RETRY_SECONDS
            )
        self._open += 1
        self._metrics.streams.labels(route=route).inc()
        try:
            yield
        finally:
            self._open -= 1
            self._metrics.streams.labels(route=route).dec()


class LatestFrame(Generic[T]):
    """Holds the newest frame: a new one replaces one that was not taken."""

    def __init__(self) -> None:
        self._latest: T | None = None
        self._available = asyncio.Event()
        self.dropped = 0

    def put(self, item: T) -> bool:
        """Store a frame; True when it replaces another."""
        replaced = self._latest is not None
        self.dropped += replaced
        self._latest = item
        self._available.set()
        return replaced

    async def wait(self) -> None:
        """Wait until there is a frame."""
        await self._available.wait()

    def take(self) -> T:
        """Remove and return the frame; raises LookupError when there is none."""
        item, self._latest = self._latest, None
        self._available.clear()
        if item is None:
            raise LookupError("there is no frame")
        return item


@dataclass(frozen=True)
class StreamSpec:
    """How to process the frames of a file: every `every`-th, at most `max_frames` of them."""

    options: DetectOptions
    every: int
    max_frames: int
    draw: DrawnFormat | None = None
    model: str | None = None  # the name of the model, None for the default


@dataclass(frozen=True, eq=False)
class FrameResult:
    """The outcome of one frame; `index` counts skipped frames too."""

    index: int
    seconds: float | None
    outcome: Outcome | ServiceError


@dataclass(frozen=True)
class EndOfStream:
    """Why there are no more results."""

    reason: Literal["complete", "max_frames", "error"]


async def detect_frames(
    service: DetectionService, data: bytes, spec: StreamSpec
) -> AsyncGenerator[FrameResult | EndOfStream, None]:
    """Results of a file's frames, each decoded when the one before has been taken; then an EndOfStream."""
    frames = _FrameReader(data, Limits(service.settings.max_pixels), spec.every)
    index = answered = 0
    while True:
        next_one = await outcome_of(_next(service, frames, spec))
        if isinstance(next_one, ServiceError):
            yield FrameResult(index, None, next_one)
            yield EndOfStream("error")
            return
        plan, frame = next_one
        if frame is None or answered == spec.max_frames:
            yield EndOfStream("complete" if frame is None else "max_frames")
            return
        outcome = await outcome_of(_detect(service, frame, plan))
        yield FrameResult(frame.index, frame.seconds, outcome)
        if isinstance(outcome, FATAL):
            yield EndOfStream("error")
            return
        index, answered = frame.index + spec.every, answered + 1
        del plan, frame, outcome, next_one  # the next frame may have to wait for a load, and that for a model


async def outcome_of(work: Awaitable[T]) -> T | ServiceError:
    """The result of the work for one frame, or its error; logs an unexpected one and makes it Internal."""
    (outcome,) = await asyncio.gather(work, return_exceptions=True)
    if isinstance(outcome, ServiceError) or not isinstance(outcome, BaseException):
        return outcome
    logger.error("a frame failed", exc_info=outcome)
    return Internal("an error of the service; its log has the reason under this request's id")


class _StepControl(DecodeControl):
    """The control of the current step."""

    def __init__(self) -> None:
        self.current: DecodeControl = UNCONTROLLED

    def reserve(self, nbytes: int) -> None:
        self.current.reserve(nbytes)

    def check(self) -> None:
        self.current.check()


class _FrameReader:
    """The frames of a file, read a picture a step: each step is under a control of its own.

    The steps do not refer to the reader: a cycle would keep the pixels of a stream that is over.
    """

    def __init__(self, data: bytes, limits: Limits, every: int) -> None:
        self._control = _StepControl()
        self._steps = frame_steps(data, limits, every, self._control)

    def step(self, control: DecodeControl) -> Frame | Literal["skipped", "end"]:
        """Decode the next picture; called on a thread."""
        self._control.current = control
        try:
            return next(self._steps) or "skipped"
        except StopIteration:
            return "end"


async def _next(
    service: DetectionService, frames: _FrameReader, spec: StreamSpec
) -> tuple[Plan, Frame | None]:
    """The next frame and its plan, None after the last.

    Each frame is a request of its own, of the model that has the name then. A picture a step: time and client
    are looked at between them.
    """
    plan = await service.plan_for(spec.model, spec.options, time.monotonic(), spec.draw)
    frame: Frame | Literal["skipped", "end"] = "skipped"
    try:
        while frame == "skipped":
            frame = await service.pipeline.decode_step(plan, frames.step)
    except VideoUnavailable as error:
        raise UnsupportedMediaType(str(error)) from error
    except ImageError as error:
        raise from_image_error(error) from error
    if isinstance(frame, str):
        return plan, None
    _check_skipped(frame, spec.every, service.settings.max_pixels)
    return plan, frame


def _check_skipped(frame: Frame, every: int, max_pixels: int) -> None:
    """Raise InvalidParameter where too many pixels would be decoded between two answers."""
    height, width = frame.pixels.shape[:2]
    allowed = PIXELS_BETWEEN_FRAMES * max_pixels
    if every * width * height > allowed:
        raise InvalidParameter(
            f"every={every}: {every} frames of {width} x {height} pixels are too many between two answers; "
            f"at most {allowed} pixels are allowed; give every={allowed // (width * height)} or less"
        )


async def _detect(service: DetectionService, frame: Frame, plan: Plan) -> Outcome:
    """As the pipeline does, but a frame that finds no slot waits for one while it has time."""
    while True:
        try:
            return await service.pipeline.detect(frame.pixels, plan)
        except Overloaded as error:
            pause = error.retry_after or 1.0
            if pause >= plan.seconds_left():
                raise
            await asyncio.sleep(pause)
