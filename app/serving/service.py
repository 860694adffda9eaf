"""The life cycle of the service: load, take requests, drain, close. Knows no HTTP and no torch."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

from app.batching.batcher import Batcher
from app.batching.device import DeviceStatus
from app.batching.item import NORMAL, RequestHandle
from app.errors import RETRY_SECONDS, STOPPING, Draining, Failing, Loading, ServiceError
from app.schemas.options import DetectOptions
from app.serving.admission import Admission
from app.serving.byte_account import BodyAccounts
from app.serving.model import InferenceJob, InferenceResult, LoadedModel
from app.serving.models.loads import LoadResult, ModelLoads
from app.serving.models.on_request import LoadsOnRequest
from app.serving.models.registry import ModelRegistry
from app.serving.models.release import Identity
from app.serving.models.start import load_named
from app.serving.pipeline import Pipeline, count_rejections
from app.serving.preparation import Preparation
from app.serving.request import DrawnFormat, Plan, plan_of
from app.settings.api_keys import ApiKeys
from app.settings.settings import Settings
from app.telemetry.metrics import Metrics

State = Literal["loading", "ok", "draining", "failing"]
Status = State | Literal["degraded"]

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)


class DetectionService:
    """The service: its state, its models, and the `pipeline` that answers requests."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        models: ModelRegistry,
        admission: Admission,
        batcher: Batcher[InferenceJob, InferenceResult],
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.models = models
        self._admission = admission
        self._batcher = batcher
        self.keys = ApiKeys(settings)
        self.bodies = BodyAccounts.of(settings)
        self._preparation = Preparation(settings, metrics)
        self.pipeline = Pipeline(metrics, admission, batcher, self._preparation, self._refusal)
        self.loads = ModelLoads(settings, metrics, models, admission, batcher)
        self._on_request = LoadsOnRequest(settings, models, self.loads, admission)
        self._startup: asyncio.Task[None] | None = None
        self._created_at = time.monotonic()
        self._drain_deadline = math.inf
        self.draining = asyncio.Event()  # for work that no request waits for
        self.stopping = False  # clients should go elsewhere; requests are taken until `drain`
        self.ready_at: float | None = None  # on the monotonic clock
        self.closed_cleanly = False  # closed, and no thread uses a model any more

    @property
    def state(self) -> State:
        """Whether the service takes work: only when "ok"."""
        if self._admission.draining:
            return "draining"
        if self._startup is None or not self._startup.done():
            return "loading"
        return "ok" if self._batcher.alive else "failing"

    @property
    def ready(self) -> bool:
        """Whether clients should send requests here."""
        return self.state == "ok" and not self.stopping

    @property
    def status(self) -> Status:
        """The state that clients see: "degraded" is "ok" with a device that does not work."""
        if self.stopping:
            return "draining"
        degraded = any(status.state != "working" for _, status in self.devices)
        return "degraded" if degraded and self.state == "ok" else self.state

    @property
    def devices(self) -> list[tuple[str, DeviceStatus]]:
        """Name and status of each device that the model was loaded on."""
        names = self.models.serving.devices if self.models.serving else ()
        return list(zip(names, self._batcher.statuses, strict=False))

    @property
    def reason(self) -> str | None:
        """Why it is not ready, for clients; None if it is."""
        refusal = self._refusal()
        return refusal.detail if refusal else STOPPING if self.stopping else None

    @property
    def queue_depth(self) -> int:
        """Number of images that wait for a device."""
        return self._batcher.depth

    @property
    def idle(self) -> bool:
        """Whether every accepted image has its answer."""
        return self._admission.depth == 0

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the service was built."""
        return time.monotonic() - self._created_at

    def start(self) -> None:
        """Start to load the model in the background."""
        self._startup = asyncio.create_task(self._load_and_start(), name="startup")

    async def started(self) -> None:
        """Wait until the model is loaded and warmed up, or its load has failed."""
        if self._startup is not None:
            await asyncio.wait({self._startup})

    async def _load_and_start(self) -> None:
        self.loads.starting = list(self.settings.models)
        for model in await load_named(self.models, self.settings):
            self.models.add(model)
            self.loads.kept.add(model.name)
        self.loads.starting = []
        if self.models.serving is None:
            return
        self.loads.share_devices()
        await self._batcher.start()
        self.ready_at = time.monotonic()

    @property
    def failed_to_load(self) -> bool:
        """Whether the first load has failed."""
        return self._startup is not None and self._startup.done() and self.models.serving is None

    @property
    def lost_devices(self) -> bool:
        """Whether every device is dead, so that only a new process can serve again."""
        return self._batcher.dead

    @property
    def drain_seconds_left(self) -> float:
        """Seconds left to finish accepted work; counted from the first `drain`."""
        return max(0.0, self._drain_deadline - time.monotonic())

    def drain(self) -> None:
        """Reject new work from now on; accepted work is finished."""
        self.stopping = True
        self._drain_deadline = min(self._drain_deadline, time.monotonic() + self.settings.drain_seconds)
        self._admission.drain()
        self.draining.set()

    async def close(self) -> None:
        """Finish accepted work while there is time, fail the rest, and end the threads."""
        self.drain()
        self.loads.stop()
        if self._startup is not None:
            self._startup.cancel()
        finished = await self._batcher.close(self.drain_seconds_left)
        self._preparation.close()
        self.closed_cleanly = finished and not self.models.loading

    # models

    async def load_model(self, name: str, *, default: bool = False) -> LoadResult:
        """Serve the model of that name; raises ServiceError and then changes nothing.

        It is loaded beside the others where RCNN_MAX_LOADED_MODELS allows more than one, else it replaces the
        one that serves. `default`: it answers requests that name no model.
        """
        self._check_ready()
        return await self.loads.load(name, default=default)

    def unload_model(self, name: str) -> Identity:
        """Take a model off; raises UnknownModel, Conflict for the default one."""
        self._check_ready()
        return self.loads.unload(name)

    def reload_models(self) -> None:
        """Load card and weights of every model that serves again, in the background; logs the result."""
        try:
            self._check_ready()
            self.loads.reload_all()
        except ServiceError as error:
            logger.warning("the models are not reloaded: %s", error.detail)

    @property
    def has_one_model(self) -> bool:
        """Whether every request is answered by the same model, or refused."""
        return len(self.models.ready) <= 1 and not self.settings.load_on_request

    async def model_for(
        self, name: str | None = None, version: str = "", deadline: float | None = None
    ) -> LoadedModel:
        """The model of a name or alias, None for the default, loaded by `deadline` (monotonic).

        Raises UnknownModel, Loading, Failing, LoadFailed, Conflict, Overloaded.
        """
        self.ready_model()
        found = self.models.find(name, version)
        if found is None:  # from here on nothing may hold a model: its end may be what the load waits for
            latest = time.monotonic() + self.settings.timeout_ms / 1000
            found = await self._on_request.obtain(str(name), version, min(deadline or latest, latest))
        self.models.count_use(found)
        return found

    def find_model(self, name: str, version: str = "") -> LoadedModel:
        """The model of a name or alias, if it is loaded; raises UnknownModel, Loading, Failing."""
        self.ready_model()
        return self.models.get(name, version)

    def ready_model(self) -> LoadedModel:
        """The default model; raises Loading or Failing when there is none."""
        if self.models.serving is None:
            raise self._refusal() or Loading("the model is being loaded; ask again soon", RETRY_SECONDS)
        return self.models.serving

    # requests

    def check_capacity(self) -> None:
        """Raise ServiceError where a request would be rejected anyway: cheap, before its body is read."""
        self._check_ready()
        self._preparation.threads.check()
        self._admission.check_capacity(flow=self.ready_model().flow)

    async def wait_for_capacity(
        self, started: float, priority: int | None = None, model: LoadedModel | None = None
    ) -> None:
        """As `check_capacity`, but waits a moment for capacity: nothing is read or reserved yet.

        `model`: the one that the request names, None for the default where that is not known yet.
        """
        priority = NORMAL if priority is None else priority
        self._check_ready()
        self._preparation.threads.check()
        with count_rejections(self.metrics, priority):
            deadline, flow = started + self.settings.timeout_ms / 1000, (model or self.ready_model()).flow
            await self._admission.wait_for_capacity(deadline, priority, flow)

    def _check_ready(self) -> None:
        if (refusal := self._refusal()) is not None:
            raise refusal

    def _refusal(self) -> ServiceError | None:
        match self.state:
            case "ok":
                return None
            case "loading":
                return Loading("the model is being loaded and warmed up; ask again soon", RETRY_SECONDS)
            case "draining":
                return Draining(STOPPING, RETRY_SECONDS)
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
        """Resolve the options against the card, before any image is read; raises InvalidParameter.

        `model`: the one that the request began with; None for the default.
        """
        return plan_of(options, model or self.ready_model(), self.settings, started, draw, upscale)

    async def plan_for(
        self, name: str | None, options: DetectOptions, started: float, draw: DrawnFormat | None = None
    ) -> Plan:
        """As `plan`, for a model by its name; raises what `model_for` raises, too."""
        model = await self.model_for(name, deadline=self.deadline_of(options, started))
        return self.plan(options, started, draw, model)

    def deadline_of(self, options: DetectOptions, started: float) -> float:
        """When a request with these options must be answered (monotonic)."""
        limit = self.settings.timeout_ms
        return started + min(options.timeout_ms or limit, limit) / 1000

    async def on_thread(self, plan: Plan, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run work that would block the event loop on a decode thread; raises DeadlineExceeded."""
        return await self._preparation.run(plan, RequestHandle(), work, *args, **kwargs)
