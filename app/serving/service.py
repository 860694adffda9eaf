"""The life cycle of the service: load, take requests, drain, close. Knows neither HTTP nor torch."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

from app.batching.batcher import Batcher
from app.batching.device import DeviceStatus
from app.batching.item import NORMAL, RequestHandle
from app.errors import RETRY_SECONDS, Draining, Failing, Loading, ServiceError
from app.schemas.options import DetectOptions
from app.serving.admission import Admission
from app.serving.model import InferenceResult, Job, LoadedModel
from app.serving.model_registry import ModelRegistry
from app.serving.model_swap import ModelSwapper, SwapResult
from app.serving.pipeline import Pipeline, count_refusals
from app.serving.preparation import Preparation
from app.serving.request import DrawnFormat, Plan, plan_of
from app.settings.settings import Settings
from app.telemetry.metrics import Metrics

State = Literal["loading", "ok", "draining", "failing"]
Status = State | Literal["degraded"]

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)


class DetectionService:
    """Takes requests while it can; `pipeline` answers them."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        models: ModelRegistry,
        admission: Admission,
        batcher: Batcher[Job, InferenceResult],
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.models = models
        self._admission = admission
        self._batcher = batcher
        self._preparation = Preparation(settings, metrics)
        self.pipeline = Pipeline(metrics, admission, batcher, self._preparation, self._refusal)
        self.swap = ModelSwapper(settings, metrics, models, admission, batcher)
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
    def devices(self) -> list[tuple[str, DeviceStatus]]:
        """Each device that the model was loaded on, and how it fares."""
        names = self.models.serving.devices if self.models.serving else ()
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
        loaded = await self.models.load(self.settings.model, self.settings.max_batch)
        if isinstance(loaded, Exception):
            # A ValueError (a card, weights, a device) or OSError says it all; anything else needs its trace.
            told = isinstance(loaded, ValueError | OSError)
            logger.error("the model cannot be loaded: %s", loaded, exc_info=None if told else loaded)
            return
        self.models.switch(loaded)
        self._batcher.set_max_batch(loaded.best_batch)
        await self._batcher.start()
        self.ready_at = time.monotonic()

    @property
    def failed_to_load(self) -> bool:
        """Whether there is no model and none will come."""
        return self._startup is not None and self._startup.done() and self.models.serving is None

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
        self.settled = finished and not self.models.loading

    # another model

    async def load_model(self, name: str) -> SwapResult:
        """Serve the model of that name instead, once it is warm; raises ServiceError, and nothing changes."""
        if (refusal := self._refusal()) is not None:
            raise refusal
        return await self.swap.load(name)

    def reload(self) -> None:
        """Read the card and the weights of the serving model again, in the background; the log tells."""
        try:
            if (refusal := self._refusal()) is not None:
                raise refusal
            self.swap.begin(self.ready_model().name)
        except ServiceError as error:
            logger.warning("nothing is loaded again: %s", error.detail)

    def ready_model(self) -> LoadedModel:
        """The model that serves; raises Loading or Failing where there is none."""
        if self.models.serving is None:
            raise self._refusal() or Loading("the model is being loaded; ask again soon", RETRY_SECONDS)
        return self.models.serving

    # the way in

    def refuse_early(self) -> None:
        """Raise at once what a request would meet anyway: nearly free, before its body is read."""
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        self._admission.check_capacity()

    async def wait_for_capacity(self, started: float, asked: int | None = None) -> None:
        """As `refuse_early`, but where only room is missing a moment later: nothing is read or held yet.

        Where no place is free, the newest of the lowest priority in the queue gives its own up for a higher.
        """
        priority = NORMAL if asked is None else asked
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        if self._admission.full:
            self._batcher.shed(priority)
        with count_refusals(self.metrics, priority):
            await self._admission.wait_for_capacity(
                started + self.settings.timeout_ms / 1000, priority=priority
            )

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
            case "failing" if self.models.serving is None:
                return Failing(
                    "the model could not be loaded; the service's log has the reason", RETRY_SECONDS
                )
            case "failing":
                return Failing("no device works any more; restart the service", RETRY_SECONDS)

    def plan(
        self,
        options: DetectOptions,
        started: float,
        draw: DrawnFormat | None = None,
        model: LoadedModel | None = None,
        upscale: bool = True,
    ) -> Plan:
        """Resolve the options against the card, before any image is touched; raises InvalidParameter.

        `model`: the one that the request has pinned, if it has; else the one that serves.
        """
        return plan_of(options, model or self.ready_model(), self.settings, started, draw, upscale)

    async def on_thread(self, plan: Plan, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run what would hold up the event loop on a decoding thread; raises DeadlineExceeded."""
        return await self._preparation.run(plan, RequestHandle(), work, *args, **kwargs)
