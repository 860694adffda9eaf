"""Where the service is put together: the only place that builds objects; at import it does nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from fastapi import Depends, FastAPI

from app import version
from app.batching.batcher import Batcher, BatchEvents
from app.batching.device import STATES, Device
from app.batching.scheduler import BatchLimits
from app.protocols import base, deepstack, huggingface, kserve, roboflow, torchserve
from app.protocols.openinference import http, http_repository
from app.routes import detect, docs, health, live, models, page, stream
from app.serving.admission import Admission
from app.serving.interfaces import Detector
from app.serving.loading import free, load_all
from app.serving.model import InferenceResult, Job
from app.serving.model_registry import ModelRegistry
from app.serving.service import DetectionService
from app.serving.streams import StreamSlots
from app.settings.settings import Settings
from app.telemetry.metrics import Metrics
from app.transport import access
from app.transport.middleware import BodyLimit, RequestContext, error_handlers
from app.transport.url_images import Fetcher

LAST_SPANS_SECONDS = 3  # for a collector that is slow to take them
LAST_CALLS_SECONDS = 1  # for answers over gRPC on their way; an idle client is slow to notice the end
logger = logging.getLogger(__name__)
DESCRIPTION = "Object detection with Faster R-CNN: an image in, boxes, labels and scores out."

ROUTERS = (
    *(detect.router, stream.router, models.router, health.router, docs.router, page.router),
    *(live.router, models.loads, http_repository.index, http_repository.repository),
    *(deepstack.router, huggingface.router, kserve.router, roboflow.router),
    *(http.router, http.probes),
    *(torchserve.predictions, torchserve.pings),
)
# The clients of DeepStack and Roboflow send their key in the body, browsers that of a web socket as its
# subprotocol: those routes look for it themselves. The routes of detect and stream are `access.Guarded`.
GUARDED = (
    *(models.router, huggingface.router, kserve.router),
    *(http.router, http_repository.index, torchserve.predictions),
)
DIALECTS = (
    (deepstack.router, deepstack.DIALECT),
    (huggingface.router, huggingface.DIALECT),
    (kserve.router, kserve.DIALECT),
    (http.router, http.DIALECT),
    (http.probes, http.DIALECT),
    (http_repository.index, http.DIALECT),
    (http_repository.repository, http.DIALECT),
    (roboflow.router, roboflow.DIALECT),
    (torchserve.predictions, torchserve.DIALECT),
    (torchserve.pings, torchserve.DIALECT),
)


def create_app(
    settings: Settings | None = None,
    detector: Detector | None = None,
    loader: Callable[[str], Detector] | None = None,
) -> FastAPI:
    """The service as an ASGI application.

    With a `detector` each device has that one, and none is loaded; with a `loader` what it makes of a name.
    """
    settings = settings or Settings()
    for warning in settings.warnings:
        logger.warning("%s", warning)
    metrics = Metrics()
    service = _service(settings, metrics, _model(settings, metrics, detector, loader))
    dialects = base.Dialects(DIALECTS)
    app = FastAPI(
        title="rcnn-serve",
        description=DESCRIPTION,
        version=version(),
        lifespan=_lifespan,
        exception_handlers=error_handlers(metrics, dialects),
        openapi_url=None,  # app/transport/openapi.py serves it and the documentation, without a CDN
        redirect_slashes=False,
        telemetry={"tracing": False},  # or FastAPI's span of a request would double ours
    )
    app.state.service = service
    app.state.close_tracing = _connect_tracing(settings)
    app.state.fetcher = Fetcher(settings.max_body_bytes)
    app.state.stream_slots = StreamSlots(settings.max_streams, metrics)
    app.add_middleware(
        BodyLimit,
        metrics=metrics,
        per_request=settings.max_body_bytes,
        in_total=settings.max_queue_bytes,
        dialects=dialects,
    )
    # the last one added is the outermost
    app.add_middleware(RequestContext, metrics=metrics, dialects=dialects)
    _include_routes(app)
    return app


def _include_routes(app: FastAPI) -> None:
    for router in ROUTERS:
        key = [Depends(access.require_key)] if router in GUARDED else []
        app.include_router(router, dependencies=key)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: DetectionService = app.state.service
    service.start()
    calls = await _listen_for_calls(service, app.state.stream_slots)
    yield
    await service.close()
    if calls is not None:
        await calls.stop(LAST_CALLS_SECONDS)
    if app.state.close_tracing is not None:
        await asyncio.to_thread(app.state.close_tracing, LAST_SPANS_SECONDS)


def _connect_tracing(settings: Settings) -> Callable[[float], None] | None:
    """Send traces to the collector that the settings name, if they name one; what sends the last ones."""
    if settings.otlp_endpoint is None:
        return None
    from app.telemetry.otlp import connect  # an optional dependency

    return connect(settings.otlp_endpoint)


async def _listen_for_calls(service: DetectionService, slots: StreamSlots) -> Any:
    """The gRPC server, where the settings ask for one; raises OSError where its port is taken."""
    settings = service.settings
    if not settings.grpc_port:
        return None
    from app.protocols.openinference.grpc.server import listen  # an optional dependency

    server, _ = await listen(service, slots, settings.host, settings.grpc_port)
    return server


def _model(
    settings: Settings,
    metrics: Metrics,
    detector: Detector | None,
    loader: Callable[[str], Detector] | None,
) -> ModelRegistry:
    """The model of the settings, or what stands in for it on each device."""
    if not (loader or detector):
        return ModelRegistry(partial(load_all, settings), metrics, free)
    one = loader or (lambda _: cast(Detector, detector))
    return ModelRegistry(lambda name: [one(name)] * len(settings.devices), metrics)


def _service(settings: Settings, metrics: Metrics, model: ModelRegistry) -> DetectionService:
    admission = Admission(settings.max_queue, settings.max_queue_bytes)
    limits = BatchLimits(settings.max_batch)
    numbers = range(len(settings.devices))
    devices = [Device(partial(model.run, device=n), partial(model.check, n)) for n in numbers]
    batcher: Batcher[Job, InferenceResult] = Batcher(devices, limits, _events(metrics, admission))
    admission.set_device_count(len(devices))
    service = DetectionService(settings, metrics, model, admission, batcher)
    metrics.queue_depth.set_function(lambda: batcher.depth)
    metrics.queue_bytes.set_function(lambda: admission.bytes)
    metrics.predicted_wait.set_function(lambda: admission.predicted_wait)
    metrics.in_flight.set_function(lambda: admission.depth)
    for state in STATES:
        metrics.devices.labels(state=state).set_function(partial(_count, service, state))
    metrics.model_ready.set_function(lambda: service.state == "ok")
    return service


def _count(service: DetectionService, state: str) -> int:
    return sum(status.state == state for _, status in service.devices)


def _events(metrics: Metrics, admission: Admission) -> BatchEvents:
    def batch_done(size: int, seconds: float) -> None:
        admission.observe(size, seconds)
        metrics.batch_size.observe(size)
        metrics.batch_duration.observe(seconds)

    return BatchEvents(
        batch_done=batch_done,
        retried=lambda reason: metrics.batch_retries.labels(reason=reason).inc(),
        cancelled=metrics.cancelled.inc,
        expired=metrics.deadline_exceeded.inc,
        shed=lambda priority: metrics.by_priority.labels(priority=priority, outcome="shed").inc(),
        working=admission.set_device_count,
    )
