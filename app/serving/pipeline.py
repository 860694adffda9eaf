"""One image's way: admitted, decoded, prepared, batched, answered. Knows neither HTTP nor torch."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from app.batching.batcher import Batcher
from app.batching.item import Closed, Completed, Expired, RequestHandle, Shed
from app.errors import RETRY_SECONDS, Draining, Overloaded, ServiceError
from app.serving.admission import Admission, Permit
from app.serving.interfaces import Canvas
from app.serving.model import InferenceResult, Job
from app.serving.preparation import Preparation, PreparedImage, late, too_large
from app.serving.request import Outcome, Plan, Source, Timings
from app.serving.tiling import BATCHES, infer_tiles, merge_tiles
from app.telemetry import tracing
from app.telemetry.metrics import Metrics
from models.options import Options


class Pipeline:
    """Detects objects in images; every way to fail that is not a bug is a ServiceError."""

    def __init__(
        self,
        metrics: Metrics,
        admission: Admission,
        batcher: Batcher[Job, InferenceResult],
        preparation: Preparation,
        refusal: Callable[[], ServiceError | None],
    ) -> None:
        """`refusal`: why the service takes no work now, None where it does."""
        self._metrics = metrics
        self._admission = admission
        self._batcher = batcher
        self._preparation = preparation
        self._refusal = refusal

    async def detect_all(self, sources: Sequence[Source], plan: Plan) -> list[Outcome]:
        """As `detect`, of several images in their order; if some fail, raises the first one's error."""
        work = (self.detect(source, plan) for source in sources)
        outcomes = []
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            outcomes.append(outcome)
        return outcomes

    async def detect(self, data: Source, plan: Plan) -> Outcome:
        """Detect objects in one image; raises ServiceError."""
        request = RequestHandle(priority=plan.priority)
        with self._admit(data, plan) as permit:
            with tracing.span("decode"):
                prepared = await self._preparation.prepare(data, plan, request)
            permit.grow(prepared.nbytes(self._tiles_at_once), len(prepared.tiles))
            completed = await self._infer(prepared, plan, request, permit)
            found = completed.result.detections
            drawn = await self._preparation.draw(prepared, found, plan, request)
        self._metrics.count_detections(plan.model.name, len(found))
        return Outcome(plan.model, prepared.size, found, timings_of(prepared, completed, plan), drawn)

    def _admit(self, data: Source, plan: Plan) -> Permit:
        held = len(data) if isinstance(data, bytes) else data.nbytes
        with count_refusals(self._metrics, plan.priority):
            permit = self._admission.admit(held, plan.deadline, plan.priority)
        self._metrics.by_priority.labels(priority=plan.priority, outcome="accepted").inc()
        return permit

    async def _infer(
        self, prepared: PreparedImage, plan: Plan, request: RequestHandle, permit: Permit
    ) -> Completed[InferenceResult]:
        """Through the queue: the image as one job, or where it is cut into tiles one for each of them."""
        if not prepared.tiles:
            return await self._run(prepared.canvas, plan.options, plan, request)

        async def infer(canvas: Canvas, options: Options) -> Completed[InferenceResult]:
            completed = await self._run(canvas, options, plan, request)
            permit.release_slot()
            return completed

        async def cut(index: int) -> Canvas:
            return await self._preparation.tile(prepared, prepared.tiles[index], plan, request)

        started = time.monotonic()
        parts = await infer_tiles(prepared, plan.options, cut, infer, self._tiles_at_once)
        merging = time.monotonic()
        tiles, options = prepared.tiles, plan.options
        found = await self._preparation.run(plan, request, merge_tiles, parts, tiles, options)
        ended = time.monotonic()
        queued = min(part.queued for part in parts)
        return Completed(InferenceResult(found, ended - merging), queued, ended - started - queued)

    @property
    def _tiles_at_once(self) -> int:
        return BATCHES * self._batcher.max_batch

    async def _run(
        self, canvas: Canvas, options: Options, plan: Plan, request: RequestHandle
    ) -> Completed[InferenceResult]:
        """One canvas through the batcher."""
        job = Job(canvas, options, plan.model, tracing.current())
        try:
            with tracing.span("queue") as span:
                completed = await self._batcher.submit(job, job.key, plan.deadline, request)
                if span is not None:
                    _end_queue_span(span, completed)
        except Expired as error:
            raise late() from error
        except Shed as error:
            raise self._admission.overloaded(str(error)) from error
        except Closed as error:
            raise self._refusal() or Draining("the service is stopping", RETRY_SECONDS) from error
        except MemoryError as error:
            raise too_large(canvas) from error
        self._metrics.stage_duration.labels(stage="queue").observe(completed.queued)
        self._metrics.priority_wait.labels(priority=request.priority).observe(completed.queued)
        return completed


@contextmanager
def count_refusals(metrics: Metrics, priority: int) -> Iterator[None]:
    """Count a refusal for want of capacity or time."""
    try:
        yield
    except Overloaded:
        metrics.by_priority.labels(priority=priority, outcome="refused").inc()
        raise


def timings_of(prepared: PreparedImage, completed: Completed[InferenceResult], plan: Plan) -> Timings:
    """The parts of a request's time so far, in milliseconds."""
    post = completed.result.postprocess
    inference = max(0.0, completed.ran - post)
    seconds = (prepared.seconds, completed.queued, inference, post, time.monotonic() - plan.started)
    return Timings(*(value * 1000 for value in seconds))


def _end_queue_span(span: tracing.Span, completed: Completed[InferenceResult]) -> None:
    """The wait ended when the batch began; the batch's span belongs to another trace too."""
    if completed.result.batch is not None:
        span.add_link(completed.result.batch.get_span_context())
    tracing.end(span, seconds_ago=completed.ran)
