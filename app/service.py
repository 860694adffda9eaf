"""The story of one image: admitted, decoded, prepared, batched, answered. Knows neither HTTP nor torch."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Literal, ParamSpec, TypeVar

from app.admission import Admission, Permit
from app.batcher import Answered, Batcher, Closed, Expired
from app.caller import Caller
from app.errors import (
    Draining,
    Failing,
    ImageTooLarge,
    InvalidParameter,
    Loading,
    ServiceError,
)
from app.metrics import Metrics
from app.model import Inferred, Job, LoadedModel, Model
from app.plan import DetectParams, DrawnFormat, Outcome, Plan, Source, Timings
from app.preparation import Preparation, Ready, late
from app.settings import Settings
from app.swap import Swap, Swapped
from app.tiled import BATCHES, Steps, infer_tiles
from models.detections import Detections
from models.options import Options
from models.tiles import Tiling

State = Literal["loading", "ok", "draining", "failing"]

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
        loading = self.swap.stop() or (self._startup is not None and not self._startup.done())
        if self._startup is not None:
            self._startup.cancel()
        finished = await self._batcher.close(self.drain_seconds_left)
        self._preparation.close()
        self.settled = finished and not loading

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

    async def wait_at_door(self, started: float) -> None:
        """As `refuse_early`, but where only room is missing a moment later: nothing is read or held yet."""
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        await self._admission.wait_for_room(started + self.settings.timeout_ms / 1000)

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
                return Failing("the batching loop has died; restart the service", RETRY_SECONDS)

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
        model = model or self.model.current
        card = model.card
        longest = self.settings.timeout_ms
        if params.timeout_ms is not None and params.timeout_ms > longest:
            raise InvalidParameter(f"timeout_ms={params.timeout_ms}: this server waits at most {longest} ms")
        options = Options(
            score_threshold=_given(params.score_threshold, card.score_threshold),
            nms_threshold=_given(params.nms_threshold, card.nms_threshold),
            max_detections=_given(params.max_detections, card.max_detections),
            classes=model.class_ids(params.classes),
            class_agnostic=params.class_agnostic,
        )
        deadline = started + _given(params.timeout_ms, longest) / 1000
        side = None if params.tile == "auto" else params.tile
        tiling = Tiling(side, params.tile_overlap, self.settings.max_tiles) if params.tile else None
        return Plan(model, options, params.size, deadline, started, draw, params.upscale, tiling)

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
        caller = Caller()
        with self._admission.admit(held, plan.deadline) as permit:
            ready = await self._preparation.prepare(data, plan, caller)
            permit.grow(ready.nbytes(self._tiles_at_once), len(ready.tiles))
            answered = await self._answer(ready, plan, caller, permit)
            found = answered.result.detections
            drawn = await self._preparation.draw(ready, found, plan, caller)
        self._count(found, plan.model)
        return Outcome(plan.model, ready.size, found, _timings(ready, answered, plan), drawn)

    async def _answer(self, ready: Ready, plan: Plan, caller: Caller, permit: Permit) -> Answered[Inferred]:
        """Through the queue: the image as one job, or where it is cut into tiles one for each of them."""
        if not ready.tiles:
            return await self._infer(Job(ready.canvas, plan.options, plan.model), plan.deadline, caller)
        steps = Steps(
            prepare=lambda tile: self._preparation.tile(ready, tile, plan, caller),
            infer=lambda canvas, options: self._infer(
                Job(canvas, options, plan.model), plan.deadline, caller
            ),
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

    async def _infer(self, job: Job, deadline: float, caller: Caller) -> Answered[Inferred]:
        try:
            answered = await self._batcher.submit(job, job.key, deadline, caller)
        except Expired as error:
            raise late() from error
        except Closed as error:
            raise self._refusal() or Draining("the service is stopping", RETRY_SECONDS) from error
        except MemoryError as error:
            height, width = job.canvas.key
            raise ImageTooLarge(
                f"a canvas of {width} x {height} px does not fit into the device; give a smaller `size`"
            ) from error
        self.metrics.stage_duration.labels(stage="queue").observe(answered.queued)
        return answered

    def _count(self, found: Detections, model: LoadedModel) -> None:
        self.metrics.detections.labels(model=model.name).inc(len(found))
        self.metrics.detections_per_image.observe(len(found))


def _timings(ready: Ready, answered: Answered[Inferred], plan: Plan) -> Timings:
    post = answered.result.postprocess
    inference = max(0.0, answered.ran - post)
    seconds = (ready.seconds, answered.queued, inference, post, time.monotonic() - plan.started)
    return Timings(*(value * 1000 for value in seconds))


def _given(value: R | None, default: R) -> R:
    return default if value is None else value
