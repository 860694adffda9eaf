"""The story of one image: admitted, decoded, prepared, batched, answered. Knows neither HTTP nor torch."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, ParamSpec, TypeVar

from app.batching.batcher import Batcher
from app.batching.device import Condition
from app.batching.item import NORMAL, Answered, Caller, Closed, Expired, Shed
from app.errors import Draining, Failing, Loading, Overloaded, ServiceError
from app.serving.admission import Admission, Permit
from app.serving.interfaces import Canvas
from app.serving.model import Inferred, Job, LoadedModel
from app.serving.model_registry import Model
from app.serving.model_swap import Swap, Swapped
from app.serving.pipeline import end_wait, timings_of
from app.serving.preparation import Preparation, Ready, late, too_large
from app.serving.request import DetectParams, DrawnFormat, Outcome, Plan, Source, plan_of
from app.serving.tiling import BATCHES, Steps, infer_tiles
from app.settings.settings import Settings
from app.telemetry import tracing
from app.telemetry.metrics import Metrics
from models.options import Options

State = Literal["loading", "ok", "draining", "failing"]
Status = State | Literal["degraded"]

RETRY_SECONDS = 2.0  # when to ask again for a service that is loading, draining or failing

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)


class DetectionService:
    """Takes images and answers detections; one per process."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        model: Model,
        admission: Admission,
        batcher: Batcher[Job, Inferred],
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.model = model
        self._admission = admission
        self._batcher = batcher
        self._preparation = Preparation(settings, metrics)
        self.swap = Swap(settings, metrics, model, admission, batcher)
        self._startup: asyncio.Task[None] | None = None
        self._born = time.monotonic()
        self._stop_by = math.inf
        self.ready_at: float | None = None  # on the monotonic clock
        self.settled = False  # closed, and no thread is inside the model any more

    @property
    def state(self) -> State:
        """What the service can do now: everything if "ok"."""
        if self._admission.draining:
            return "draining"
        if self._startup is None or not self._startup.done():
            return "loading"
        return "ok" if self._batcher.alive else "failing"

    @property
    def status(self) -> Status:
        """The state as clients are told it: "degraded" is "ok" with fewer devices than were loaded."""
        out = any(condition.state != "working" for _, condition in self.devices)
        return "degraded" if out and self.state == "ok" else self.state

    @property
    def devices(self) -> list[tuple[str, Condition]]:
        """Each device that the model was loaded on, and how it fares."""
        names = self.model.devices  # none before loading
        return list(zip(names, self._batcher.conditions, strict=False))

    @property
    def reason(self) -> str | None:
        """Why the state is not "ok", in words for a client; None if it is."""
        refusal = self._refusal()
        return refusal.detail if refusal else None

    @property
    def queue_depth(self) -> int:
        """Images that wait for the device."""
        return self._batcher.depth

    @property
    def idle(self) -> bool:
        """Whether every accepted image has its answer."""
        return self._admission.depth == 0

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the service was built."""
        return time.monotonic() - self._born

    def start(self) -> None:
        """Begin to load the model in the background."""
        self._startup = asyncio.create_task(self._become_ready(), name="startup")

    async def started(self) -> None:
        """Wait until the model is loaded and warmed up, or cannot be."""
        if self._startup is not None:
            await asyncio.wait({self._startup})

    async def _become_ready(self) -> None:
        loaded = await self.model.load(self.settings.model, self.settings.max_batch)
        if isinstance(loaded, Exception):
            # A ValueError (a card, weights, a device) or OSError says it all; anything else needs its trace.
            told = isinstance(loaded, ValueError | OSError)
            logger.error("the model cannot be loaded: %s", loaded, exc_info=None if told else loaded)
            return
        self.model.switch(loaded)
        self._batcher.limit(loaded.best_batch)
        await self._batcher.start()
        self.ready_at = time.monotonic()

    @property
    def failed_to_load(self) -> bool:
        """Whether there is no model and none will come."""
        return self._startup is not None and self._startup.done() and self.model.loaded is None

    @property
    def drain_seconds_left(self) -> float:
        """Of the time to finish accepted work; counted from the first `drain`."""
        return max(0.0, self._stop_by - time.monotonic())

    def drain(self) -> None:
        """Refuse new work from now on; what is accepted is finished."""
        self._stop_by = min(self._stop_by, time.monotonic() + self.settings.drain_seconds)
        self._admission.drain()

    async def close(self) -> None:
        """Finish what is left while there is time for it, refuse the rest, and end the threads."""
        self.drain()
        self.swap.stop()
        if self._startup is not None:
            self._startup.cancel()
        finished = await self._batcher.close(self.drain_seconds_left)
        self._preparation.close()
        self.settled = finished and not self.model.loading

    # another model

    async def load_model(self, name: str) -> Swapped:
        """Serve the model of that name instead, once it is warm; raises ServiceError, and nothing changes."""
        if (refusal := self._refusal()) is not None:
            raise refusal
        return await self.swap.load(name)

    def reload(self) -> None:
        """Read the card and the weights of the serving model again, in the background; the log tells."""
        try:
            if (refusal := self._refusal()) is not None:
                raise refusal
            self.swap.begin(self.model.current.name)
        except ServiceError as error:
            logger.warning("nothing is loaded again: %s", error.detail)

    # the way in

    def refuse_early(self) -> None:
        """Raise at once what a request would meet anyway: nearly free, before its body is read."""
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        self._admission.refuse_if_full()

    async def wait_at_door(self, started: float, asked: int | None = None) -> None:
        """As `refuse_early`, but where only room is missing a moment later: nothing is read or held yet.

        Where no place is free, the newest of the lowest priority in the queue gives its own up for a higher.
        """
        priority = NORMAL if asked is None else asked
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        if self._admission.full:
            self._batcher.shed(priority)
        with self._counted(priority):
            await self._admission.wait_for_room(started + self.settings.timeout_ms / 1000, priority=priority)

    @contextmanager
    def _counted(self, priority: int) -> Iterator[None]:
        """Count a refusal for want of room or time."""
        try:
            yield
        except Overloaded:
            self.metrics.by_priority.labels(priority=priority, outcome="refused").inc()
            raise

    def _refusal(self) -> ServiceError | None:
        match self.state:
            case "ok":
                return None
            case "loading":
                return Loading("the model is being loaded and warmed up; ask again soon", RETRY_SECONDS)
            case "draining":
                return Draining(
                    "the service is stopping; send the request to another instance", RETRY_SECONDS
                )
            case "failing" if self.model.loaded is None:
                return Failing(
                    "the model could not be loaded; the service's log has the reason", RETRY_SECONDS
                )
            case "failing":
                return Failing("no device works any more; restart the service", RETRY_SECONDS)

    def plan(
        self,
        params: DetectParams,
        started: float,
        draw: DrawnFormat | None = None,
        model: LoadedModel | None = None,
    ) -> Plan:
        """Resolve the options against the card, before any image is touched; raises InvalidParameter.

        `model`: the one that the request began with, where that was before; else the one that serves.
        """
        return plan_of(params, model or self.model.current, self.settings, started, draw)

    # one image

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
        """Detect objects in an image; every way to fail that is not a bug is a ServiceError."""
        held = len(data) if isinstance(data, bytes) else data.nbytes
        caller = Caller(priority=plan.priority)
        with self._counted(plan.priority):
            permit = self._admission.admit(held, plan.deadline, plan.priority)
        self.metrics.by_priority.labels(priority=plan.priority, outcome="accepted").inc()
        with permit:
            with tracing.span("decode"):
                ready = await self._preparation.prepare(data, plan, caller)
            permit.grow(ready.nbytes(self._tiles_at_once), len(ready.tiles))
            answered = await self._answer(ready, plan, caller, permit)
            found = answered.result.detections
            drawn = await self._preparation.draw(ready, found, plan, caller)
        self.metrics.count_detections(plan.model.name, len(found))
        return Outcome(plan.model, ready.size, found, timings_of(ready, answered, plan), drawn)

    async def _answer(self, ready: Ready, plan: Plan, caller: Caller, permit: Permit) -> Answered[Inferred]:
        """Through the queue: the image as one job, or where it is cut into tiles one for each of them."""
        if not ready.tiles:
            return await self._infer(ready.canvas, plan.options, plan, caller)
        steps = Steps(
            prepare=lambda tile: self._preparation.tile(ready, tile, plan, caller),
            infer=lambda canvas, options: self._infer(canvas, options, plan, caller),
            merge=lambda work: self._preparation.run(plan, caller, work),
            done=permit.give_place_back,
        )
        return await infer_tiles(ready.canvas, ready.tiles, plan.options, steps, self._tiles_at_once)

    async def on_thread(self, plan: Plan, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run what would hold up the event loop on a decoding thread; raises DeadlineExceeded."""
        return await self._preparation.run(plan, Caller(), work, *args, **kwargs)

    @property
    def _tiles_at_once(self) -> int:
        return BATCHES * self._batcher.max_batch

    async def _infer(
        self, canvas: Canvas, options: Options, plan: Plan, caller: Caller
    ) -> Answered[Inferred]:
        job = Job(canvas, options, plan.model, tracing.current.get())
        try:
            with tracing.span("queue") as waiting:
                answered = await self._batcher.submit(job, job.key, plan.deadline, caller)
                if waiting is not None:
                    end_wait(waiting, answered)
        except Expired as error:
            raise late() from error
        except Shed as error:
            raise self._admission.overloaded(str(error)) from error
        except Closed as error:
            raise self._refusal() or Draining("the service is stopping", RETRY_SECONDS) from error
        except MemoryError as error:
            raise too_large(canvas) from error
        self.metrics.stage_duration.labels(stage="queue").observe(answered.queued)
        self.metrics.priority_wait.labels(priority=caller.priority).observe(answered.queued)
        return answered
