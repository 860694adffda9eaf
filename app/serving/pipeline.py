"""The pipeline of an image: admitted, decoded, prepared, batched, answered. Knows no HTTP and no torch."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from app.batching.batcher import Batcher
from app.batching.item import Closed, Completed, Expired, RequestHandle, Shed
from app.errors import RETRY_SECONDS, Draining, Overloaded, ServiceError
from app.serving.admission import Admission
from app.serving.decode_threads import deadline_exceeded
from app.serving.interfaces import Canvas
from app.serving.model import InferenceJob, InferenceResult
from app.serving.preparation import Preparation, PreparedImage, canvas_too_large
from app.serving.request import Outcome, Plan, Source, Timings
from app.serving.tiling import BATCHES, infer_tiles, merge_tiles
from app.telemetry import tracing
from app.telemetry.metrics import Metrics
from app.telemetry.request_log import note_image
from models.images.control import DecodeControl
from models.options import Options

R = TypeVar("R")
Observer = Callable[[Source, Outcome], None]
"""Is called on the event loop with each image and its result; does not wait and does not raise."""


class Pipeline:
    """Detects objects in images; every failure that is not a bug is a ServiceError."""

    def __init__(
        self,
        metrics: Metrics,
        admission: Admission,
        batcher: Batcher[InferenceJob, InferenceResult],
        preparation: Preparation,
        refusal: Callable[[], ServiceError | None],
    ) -> None:
        """`refusal`: why the service takes no work now, None when it does."""
        self._metrics = metrics
        self._admission = admission
        self._batcher = batcher
        self._preparation = preparation
        self._refusal = refusal
        self.observers: list[Observer] = []

    async def detect_all(self, sources: Sequence[Source], plan: Plan) -> list[Outcome]:
        """As `detect`, for several images in their order; if some fail, raises the error of the first."""
        work = (self.detect(source, plan) for source in sources)
        outcomes = []
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            outcomes.append(outcome)
        return outcomes

    async def detect(self, source: Source, plan: Plan) -> Outcome:
        """Detect objects in one image; raises ServiceError."""
        with plan.model.statistics.failing(plan.started):
            outcome = await self._detect(source, plan)
        plan.model.statistics.count_success(vars(outcome.timings))
        for observe in self.observers:
            observe(source, outcome)
        return outcome

    async def _detect(self, source: Source, plan: Plan) -> Outcome:
        request = RequestHandle(plan.priority)
        nbytes = len(source) if isinstance(source, bytes) else source.nbytes
        with count_rejections(self._metrics, plan.priority):
            permit = self._admission.admit(nbytes, plan.deadline, plan.priority, plan.model.flow)
        with permit:
            self._metrics.by_priority.labels(priority=plan.priority, outcome="accepted").inc()
            with tracing.span("decode"):
                prepared = await self._preparation.prepare(source, plan, request, permit.grow)
            permit.grow(prepared.nbytes(_tiles_at_once(plan)), len(prepared.tiles))
            permit.take_slot()  # from here to the queue nothing is awaited
            if prepared.tiles:
                completed = await self._infer_tiles(prepared, plan, request, permit.release_slot)
            else:
                completed = await self._infer(prepared.canvas, plan.options, plan, request)
            detections = completed.result.detections
            drawn = await self._preparation.draw(prepared, detections, plan, request)
        self._metrics.count_detections(plan.model.name, len(detections))
        note_image(plan.model.name, len(detections), completed.queued)
        timings = timings_of(prepared, completed, plan)
        return Outcome(plan.model, prepared.size, detections, timings, drawn, prepared.truncated)

    async def decode_step(self, plan: Plan, work: Callable[[DecodeControl], R]) -> R:
        """Run a step of a stream's decoding on a thread, with memory held meanwhile; raises ServiceError."""
        return await self._preparation.threads.decode(plan, RequestHandle(), self._admission.reserve, work)

    async def _infer(
        self, canvas: Canvas, options: Options, plan: Plan, request: RequestHandle
    ) -> Completed[InferenceResult]:
        """Run one canvas through the batcher."""
        job = InferenceJob(canvas, options, plan.model, tracing.current())
        try:
            with tracing.span("queue") as span:
                completed = await self._batcher.submit(job, job.key, plan.deadline, request, plan.model.flow)
                if span is not None:
                    _end_queue_span(span, completed)
        except Expired as error:
            raise deadline_exceeded() from error
        except Shed as error:
            raise self._admission.overloaded(str(error)) from error
        except Closed as error:
            raise self._refusal() or Draining("the service is stopping", RETRY_SECONDS) from error
        except MemoryError as error:
            raise canvas_too_large(canvas) from error
        durations = self._metrics.stage_duration
        durations.labels(stage="queue", model=plan.model.name).observe(completed.queued)
        self._metrics.priority_wait.labels(priority=request.priority).observe(completed.queued)
        return completed

    async def _infer_tiles(
        self, prepared: PreparedImage, plan: Plan, request: RequestHandle, release_slot: Callable[[], None]
    ) -> Completed[InferenceResult]:
        """Run the image and each of its tiles through the batcher, and merge their detections."""

        async def infer(canvas: Canvas, options: Options) -> Completed[InferenceResult]:
            completed = await self._infer(canvas, options, plan, request)
            release_slot()
            return completed

        async def cut(index: int) -> Canvas:
            return await self._preparation.tile(prepared, prepared.tiles[index], plan, request)

        started = time.monotonic()
        parts = await infer_tiles(prepared, plan.options, cut, infer, _tiles_at_once(plan))
        merge_started = time.monotonic()
        tiles, options = prepared.tiles, plan.options
        merged = await self._preparation.run(plan, request, merge_tiles, parts, tiles, options)
        ended = time.monotonic()
        queued = min(part.queued for part in parts)
        result = InferenceResult(merged, ended - merge_started)
        return Completed(result, queued, ended - started - queued)


def _tiles_at_once(plan: Plan) -> int:
    return BATCHES * plan.model.flow.batch_limit


@contextmanager
def count_rejections(metrics: Metrics, priority: int) -> Iterator[None]:
    """Count a request that is rejected for want of capacity or time."""
    try:
        yield
    except Overloaded:
        metrics.by_priority.labels(priority=priority, outcome="refused").inc()
        raise


def timings_of(prepared: PreparedImage, completed: Completed[InferenceResult], plan: Plan) -> Timings:
    """The parts of a request's time so far, in milliseconds."""
    postprocess = completed.result.postprocess
    inference = max(0.0, completed.ran - postprocess)
    seconds = (prepared.seconds, completed.queued, inference, postprocess, time.monotonic() - plan.started)
    return Timings(*(value * 1000 for value in seconds))


def _end_queue_span(span: tracing.Span, completed: Completed[InferenceResult]) -> None:
    """End the span where the batch began, and link the batch's span, which belongs to another trace."""
    if completed.result.batch is not None:
        span.add_link(completed.result.batch.get_span_context())
    tracing.end(span, seconds_ago=completed.ran)
