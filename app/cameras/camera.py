"""One stream: reads its camera, detects in the newest frame, sends the results; it survives cuts.

Each frame is a request of its own, with admission, deadline and errors as any other. While the camera or the
model is away the stream waits, and tries again with growing pauses. It holds no model then.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from datetime import datetime
from typing import Any, Protocol

from pydantic_core import to_json
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from app.cameras.delivery import Delivery, Pauses
from app.cameras.reader import CameraReader, ReceivedFrame, SourceEnded
from app.cameras.watchers import Watcher, Watchers
from app.errors import ServiceError, problem
from app.schemas.cameras import CameraEntry, CameraRequest, CameraState, StateLine
from app.serving.model import LoadedModel
from app.serving.request import Outcome
from app.serving.service import DetectionService
from app.serving.streams import FATAL, outcome_of
from app.settings.stream_addresses import StreamAddress
from app.telemetry.camera_metrics import CameraCounters
from app.telemetry.logs import request_id
from app.transport.query import one_model
from app.transport.responses import answer, fields_of
from models.detections import Detections
from models.images.decoder import ImageError, Limits, OutOfMemory
from models.images.video.camera import DEVICE, SourceLost

RECEIVERS = {"name", "source", "webhook", "mqtt"}  # of a request: not shown among its options
logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Gives objects ids that they keep from frame to frame."""

    def update(self, detections: Detections, seconds: float) -> list[int | None]:
        """The id of each detection of a frame at that time, None while it is too new to have one."""


class Paused(Exception):
    """The camera or the model is away; the text says why."""


class Camera:
    """A stream and its state. It is over when it was stopped, its file has ended, or it cannot be read."""

    def __init__(
        self,
        service: DetectionService,
        request: CameraRequest,
        address: StreamAddress,
        counters: CameraCounters,
        pauses: Pauses,
    ) -> None:
        self.request = request
        self.watchers = Watchers()
        self.deliveries: Sequence[Delivery] = ()
        self.tracker: Tracker | None = None
        self.state: CameraState = "connecting"
        self.reason: str | None = None
        self._service = service
        self._address = address
        self._counters = counters
        self._pauses = pauses
        self._is_file = not address.scheme and not DEVICE.fullmatch(address.path)
        self._limits = Limits(service.settings.max_pixels)
        self._reader: CameraReader | None = None
        self._received = self._dropped = self._answered = self._failed = self._connections = 0
        self._last: datetime | None = None
        self._next_turn = 0.0  # on the monotonic clock
        self._heard = False  # a frame, since the last time that the source was opened
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_over(self) -> bool:
        """Whether it reads no more."""
        return self.state in ("ended", "failed")

    def entry(self) -> CameraEntry:
        """What lists show."""
        options = self.request.model_dump(mode="json", exclude_unset=True, exclude=RECEIVERS)
        return CameraEntry(
            name=self.request.name,
            source=self._address.public,
            state=self.state,
            reason=self.reason,
            model=one_model(self.request),
            frames=self._reader.received if self._reader else self._received,
            answered=self._answered,
            failed=self._failed,
            dropped=self._dropped,
            connections=self._connections,
            last_frame=self._last.isoformat(timespec="milliseconds") if self._last else None,
            options=options,
            deliveries=[delivery.entry() for delivery in self.deliveries],
        )

    def state_line(self) -> bytes:
        """The state as a line for watchers."""
        return to_json(StateLine(stream=self.request.name, state=self.state, reason=self.reason))

    @contextmanager
    def watch(self) -> Iterator[Watcher]:
        """One more client, whose first line is the state; raises Overloaded."""
        with self.watchers.watch() as watcher:
            if self.is_over:
                watcher.finish(self.state_line())
            yield watcher

    def start(self) -> None:
        """Read from now on. Not in the context of the request that asks for it: that is over soon."""
        work = [self._run(), *(delivery.run() for delivery in self.deliveries)]
        self._tasks = [asyncio.create_task(one, name="camera", context=Context()) for one in work]
        self._tasks[0].add_done_callback(self._note_end)
        for task in self._tasks[1:]:
            task.add_done_callback(_log_failure)

    async def stop(self, reason: str) -> None:
        """End it; `released` waits for its thread."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        if not self.is_over:
            self._finish("ended", reason)

    async def released(self) -> None:
        """Wait until the thread of the last connection has left the source."""
        if self._reader is not None:
            await self._reader.ended()

    async def _run(self) -> None:
        """Read until a file has ended; raises ImageError where another try would be in vain."""
        retrying = AsyncRetrying(
            sleep=asyncio.sleep,
            wait=self._pause,
            retry=retry_if_exception_type(Paused),
            before_sleep=self._note_pause,
        )
        async for attempt in retrying:
            with attempt:
                await self._play()

    def _pause(self, state: RetryCallState) -> float:
        if self._heard:  # the next pauses are short again
            state.attempt_number = 1
        return self._pauses(state)

    def _note_pause(self, state: RetryCallState) -> None:
        self._change("waiting", str(state.outcome.exception()) if state.outcome else None)

    def _note_end(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._finish("ended", "the file has ended")
        elif isinstance(error, ImageError):
            self._finish("failed", str(error))
        else:
            logger.error("the stream %s failed", self.request.name, exc_info=error)
            self._finish("failed", "an error of the service; its log has the reason")

    async def _play(self) -> None:
        """One connection to the source, until a file has ended; raises Paused, and ImageError for a file."""
        self._heard = False
        self._check_model()
        self._change("connecting", None)
        self._connections += 1
        self._counters.connections.inc()
        address = self._address.full if self._address.scheme else self._address.path
        reader = self._reader = CameraReader(address, self._limits, self._received, self._dropped)
        try:
            while (reason := await self._answer_next(reader)) is None:
                pass
            raise Paused(reason)  # here, where nothing refers to a model or a frame
        except ImageError as error:
            if self._is_file and isinstance(error, SourceEnded):
                return
            if self._is_file and not isinstance(error, SourceLost | OutOfMemory):
                raise
            raise Paused(f"the source: {error}") from None  # a camera may be set up anew meanwhile
        finally:
            reader.stop()
            self._received = reader.received
            self._count_dropped(reader)

    def _check_model(self) -> None:
        try:
            self._model()
        except FATAL as error:
            raise Paused(error.detail) from None

    def _model(self) -> LoadedModel:
        """The model of the next frame. It is never loaded for it: one that was unloaded stays so."""
        name = one_model(self.request)
        return self._service.find_model(name) if name else self._service.ready_model()

    async def _answer_next(self, reader: CameraReader) -> str | None:
        """Detect in the newest frame when there is one and capacity for it; why to pause, None to go on."""
        await asyncio.sleep(max(0.0, self._next_turn - time.monotonic()))
        await reader.wait()
        refusal = await outcome_of(self._wait_for_capacity())
        frame = reader.take()
        self._next_turn = time.monotonic() + (1 / self.request.fps if self.request.fps else 0)
        self._note_frame(reader, frame)
        request_id.set(uuid.uuid4().hex)
        outcome = await outcome_of(self._detect(frame)) if refusal is None else refusal
        if isinstance(outcome, FATAL):
            return outcome.detail
        await self._publish(frame, outcome)
        return None

    def _note_frame(self, reader: CameraReader, frame: ReceivedFrame) -> None:
        self._heard, self._last = True, frame.time
        if self.state != "running":
            self._change("running", None)
        self._count_dropped(reader)

    def _count_dropped(self, reader: CameraReader) -> None:
        self._counters.frames["dropped"].inc(reader.dropped - self._dropped)
        self._dropped = reader.dropped

    async def _wait_for_capacity(self) -> None:
        model = self._model()
        await self._service.wait_for_capacity(time.monotonic(), self.request.priority, model)

    async def _detect(self, frame: ReceivedFrame) -> Outcome:
        model = self._model()
        self._service.models.count_use(model)
        plan = self._service.plan(self.request, time.monotonic(), model=model)
        pixels = await self._service.pipeline.decode_step(plan, frame.live.pixels)
        return await self._service.pipeline.detect(pixels, plan)

    async def _publish(self, frame: ReceivedFrame, outcome: Outcome | ServiceError) -> None:
        message: dict[str, Any] = {
            "stream": self.request.name,
            "frame": frame.index,
            "dropped": self._dropped,
            "time": frame.time.isoformat(timespec="milliseconds"),
        }
        if isinstance(outcome, ServiceError):
            self._failed += 1
            self._counters.frames["failed"].inc()
            self._service.metrics.rejected.labels(code=outcome.code).inc()
            self.watchers.put(to_json(message | {"error": problem(outcome, request_id.get())}))
            return
        self._answered += 1
        self._counters.frames["answered"].inc()
        message |= fields_of(answer(outcome, self.request))
        if self.tracker is not None:
            seconds = frame.time.timestamp()
            message["track_ids"] = await asyncio.to_thread(self.tracker.update, outcome.detections, seconds)
        body = to_json(message)
        self.watchers.put(body)
        if len(outcome.detections) or not self.request.skip_empty:
            for delivery in self.deliveries:
                delivery.offer(body)

    def _change(self, state: CameraState, reason: str | None) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        self._counters.running.set(state == "running")
        level = logging.WARNING if state in ("waiting", "failed") else logging.INFO
        logger.log(level, "the stream %s is %s%s", self.request.name, state, f": {reason}" if reason else "")
        self.watchers.put(self.state_line())

    def _finish(self, state: CameraState, reason: str) -> None:
        self._change(state, reason)
        self.watchers.finish(self.state_line())


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("results of a stream are no longer delivered", exc_info=error)
