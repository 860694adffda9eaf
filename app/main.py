"""Builds the service: the only module that constructs its objects; import has no effect."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from fastapi import FastAPI

from app import version
from app.batching.batcher import Batcher
from app.batching.device import STATES, Device
from app.batching.events import BatchEvents
from app.batching.flow import Flow
from app.batching.scheduler import BatchLimits
from app.captures.recorder import open_recorder
from app.protocols import doods, huggingface, kserve, labelstudio, torchserve
from app.protocols.deepstack import detection, status
from app.protocols.openinference import grpc_port, http, http_repository, http_shared_memory, http_statistics
from app.protocols.openinference.shared_memory import SharedMemory
from app.protocols.roboflow import hosted, inference
from app.protocols.roboflow import models as roboflow_models
from app.routes import cameras, captures, detect, docs, health, live, models, page, stream
from app.serving.admission import Admission
from app.serving.interfaces import Detector, ModelSource
from app.serving.loading import Source
from app.serving.model import InferenceJob, InferenceResult
from app.serving.models.registry import ModelRegistry
from app.serving.service import DetectionService
from app.serving.streams import StreamSlots
from app.settings.platforms import PlatformRoutes
from app.settings.settings import Settings
from app.telemetry.metrics import Metrics
from app.transport.middleware.allowed_hosts import AllowedHosts
from app.transport.middleware.body_limit import BodyLimit
from app.transport.middleware.cors import Cors
from app.transport.middleware.inflate import Inflate
from app.transport.middleware.request_context import RequestContext, error_handlers
from app.transport.middleware.root_path import RootPath
from app.transport.middleware.trailing_slash import TrailingSlash
from app.transport.probes import Probes
from app.transport.query import QueryLimit
from app.transport.router import DialectLookup, Router, has_route, openapi_tags
from app.transport.url_images import Fetcher
from models.zoo.cards import Card

LAST_SPANS_SECONDS = 3  # to export the last spans
LAST_CALLS_SECONDS = 1  # for gRPC responses on their way; an idle client is slow to notice the end
ABOUT: dict[str, Any] = {
    "title": "rcnn-serve",
    "description": "Object detection with Faster R-CNN: an image in, boxes, labels and scores out.",
    "contact": {"name": "Whoever runs this server"},
    "license_info": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
logger = logging.getLogger(__name__)

ROUTERS: tuple[Router, ...] = (
    *(detect.router, stream.router, page.browser_router),
    *(models.router, health.router, docs.router, page.router),
    *(captures.router, cameras.router, cameras.sockets),
    *(live.router, models.loads, http_repository.index, http_repository.repository),
    *(
        detection.router,
        status.router,
        doods.router,
        huggingface.router,
        kserve.router,
        kserve.vertex,
        kserve.vertex_probes,
        labelstudio.router,
    ),
    *(inference.router, roboflow_models.registry),
    *(http_statistics.router, http_shared_memory.router, http.router, http.probes),
    *(torchserve.predictions, torchserve.pings),
    hosted.router,  # the last: its path is any of two parts
)
"""In the order in which their paths are matched; each has its own check of keys and dialect of errors."""


def create_app(
    settings: Settings | None = None,
    detector: Detector | None = None,
    loader: Callable[[str], Detector] | None = None,
    allowed_hosts: Sequence[str] = (),
) -> FastAPI:
    """The service as an ASGI application.

    `detector` serves on each device instead of a loaded model; `loader` loads one by name.
    `allowed_hosts`: the values of the header Host that are accepted; none: any.
    """
    settings = settings or Settings()
    for warning in settings.warnings:
        logger.warning("%s", warning)
    metrics = Metrics()
    service = _service(settings, metrics, _model(settings, metrics, detector, loader))
    routers = (*_platform_routers(settings.platform_routes), *ROUTERS)
    dialects = DialectLookup(routers)
    app = FastAPI(
        **ABOUT,
        version=version(),
        lifespan=_lifespan,
        exception_handlers=error_handlers(metrics, dialects),
        openapi_url=None,  # app/routes/docs.py serves the document and its page, without a CDN
        openapi_tags=openapi_tags(ROUTERS),
        redirect_slashes=False,
        telemetry={"tracing": False},  # or FastAPI's span of a request would double ours
    )
    app.state.service = service
    _add_state(app, service)
    if app.state.captures is not None:
        service.pipeline.observers.append(app.state.captures.offer)
    _add_middleware(app, service, dialects, allowed_hosts)
    for router in routers:
        app.include_router(router)
    return app


def _add_state(app: FastAPI, service: DetectionService) -> None:
    """What requests find in the app beside the service."""
    settings, metrics = service.settings, service.metrics
    app.state.close_tracing = _connect_tracing(settings)
    app.state.fetcher = Fetcher(settings.max_body_bytes)
    app.state.stream_slots = StreamSlots(settings.max_streams, metrics)
    app.state.other_protocol = doods.ON_DETECT
    app.state.shared_memory = SharedMemory(settings.max_body_bytes) if settings.shared_memory else None
    app.state.cameras = _cameras(service, app.state.stream_slots)
    app.state.captures = open_recorder(settings, metrics)


def _platform_routers(routes: PlatformRoutes) -> list[Router]:
    """Routers for the paths of the hosting platform, but not where a route answers what it asks for."""
    ready = (health.router, torchserve.pings, http.probes, kserve.router, kserve.vertex_probes)
    detections = (detect.router, kserve.router, kserve.vertex)
    told = (("GET", routes.health, ready), ("POST", routes.predict, detections))
    probe, predict = (
        None if path is None or has_route(others, method, path) else path for method, path, others in told
    )
    return kserve.vertex_routers(probe, predict)


def _add_middleware(
    app: FastAPI, service: DetectionService, dialects: DialectLookup, allowed_hosts: Sequence[str]
) -> None:
    """The last one added is the outermost."""
    settings, metrics = service.settings, service.metrics
    limit, accounts = settings.max_body_bytes, service.bodies
    probes = Probes(settings.platform_routes.health)
    app.add_middleware(Inflate)
    app.add_middleware(QueryLimit, metrics=metrics, dialects=dialects)
    app.add_middleware(BodyLimit, metrics=metrics, per_request=limit, accounts=accounts, dialects=dialects)
    if allowed_hosts:
        app.add_middleware(AllowedHosts, metrics, allowed_hosts, dialects, probes)
    app.add_middleware(TrailingSlash)
    app.add_middleware(RequestContext, metrics, dialects, lambda: service.state == "draining", probes)
    if settings.allowed_origins:
        app.add_middleware(Cors, settings.allowed_origins)
    app.add_middleware(RootPath, settings.root_path or "")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: DetectionService = app.state.service
    service.start()
    if app.state.captures is not None:
        app.state.captures.start()
    listening = grpc_port.listen(service, app.state.stream_slots, app.state.shared_memory)
    app.state.calls = asyncio.create_task(listening, name="gRPC")
    if service.settings.listen == "start":
        await app.state.calls
    try:
        yield
    except asyncio.CancelledError:
        if service.state != "draining":
            raise
        return  # a second signal: nothing is finished any more
    no_threads_left = app.state.cameras is None or await app.state.cameras.close()
    await service.close()
    service.closed_cleanly &= no_threads_left
    if app.state.captures is not None:
        await app.state.captures.close()
    await grpc_port.stop(app.state.calls, LAST_CALLS_SECONDS)
    if app.state.close_tracing is not None:
        await asyncio.to_thread(app.state.close_tracing, LAST_SPANS_SECONDS)


def _cameras(service: DetectionService, slots: StreamSlots) -> Any:
    """The streams of cameras, None where the settings allow no address of one."""
    if not service.settings.stream_addresses:
        return None
    from app.cameras.registry import Cameras  # what nobody uses is not imported

    return Cameras(service, slots)


def _connect_tracing(settings: Settings) -> Callable[[float], None] | None:
    """Send traces to the collector that the settings name, if they name one; what sends the last ones."""
    if settings.otlp_endpoint is None:
        return None
    from app.telemetry.otlp import connect  # an optional dependency

    return connect(settings.otlp_endpoint)


def _model(
    settings: Settings,
    metrics: Metrics,
    detector: Detector | None,
    loader: Callable[[str], Detector] | None,
) -> ModelRegistry:
    """The model of the settings, or the replacement for it on each device."""
    source: ModelSource = Source(settings)
    if loader or detector:
        source = _GivenDetectors(loader or (lambda _: cast(Detector, detector)), len(settings.devices))
    return ModelRegistry(source, metrics, dict(settings.model_aliases))


class _GivenDetectors:
    """A source of models that are made elsewhere; of their memory nothing is known."""

    def __init__(self, make: Callable[[str], Detector], devices: int) -> None:
        self._make = make
        self._devices = devices

    def load(self, model: str) -> list[Detector]:
        return [self._make(model)] * self._devices

    def free(self) -> None:
        pass

    def needed_bytes(self, card: Card) -> int:
        return 0

    def used_bytes(self) -> int:
        return 0

    def free_bytes(self) -> int | None:
        return None


def _service(settings: Settings, metrics: Metrics, model: ModelRegistry) -> DetectionService:
    admission = Admission(settings.max_queue, settings.max_queue_bytes)
    limits = BatchLimits(settings.max_batch)
    numbers = range(len(settings.devices))
    devices = [Device(partial(model.run, device=n), partial(model.check, n)) for n in numbers]
    batcher: Batcher[InferenceJob, InferenceResult] = Batcher(
        devices, limits, _events(metrics, admission, model)
    )
    admission.set_device_count(len(devices))
    admission.set_queue(batcher)
    service = DetectionService(settings, metrics, model, admission, batcher)
    metrics.queue_depth.set_function(lambda: batcher.depth)
    metrics.queue_bytes.set_function(lambda: admission.bytes)
    metrics.predicted_wait.set_function(lambda: admission.predicted_wait)
    metrics.in_flight.set_function(lambda: admission.depth)
    metrics.body_bytes.labels(sender="user").set_function(lambda: service.bodies.users.held)
    if service.bodies.strangers is not service.bodies.users:
        metrics.body_bytes.labels(sender="stranger").set_function(lambda: service.bodies.strangers.held)
    for state in STATES:
        metrics.devices.labels(state=state).set_function(partial(_count, service, state))
    metrics.model_ready.set_function(lambda: service.ready)
    return service


def _count(service: DetectionService, state: str) -> int:
    return sum(status.state == state for _, status in service.devices)


def _events(metrics: Metrics, admission: Admission, models: ModelRegistry) -> BatchEvents:
    def batch_done(size: int, seconds: float, flow: Flow) -> None:
        admission.observe(size, seconds, flow)
        if (model := models.ready.get(flow.model)) is not None and model.flow is flow:
            model.statistics.batches[size].add(seconds)
        metrics.batch_size.labels(model=flow.model).observe(size)
        metrics.batch_duration.labels(model=flow.model).observe(seconds)

    return BatchEvents(
        batch_done=batch_done,
        retried=lambda reason: metrics.batch_retries.labels(reason=reason).inc(),
        cancelled=metrics.cancelled.inc,
        expired=metrics.deadline_exceeded.inc,
        shed=lambda priority: metrics.by_priority.labels(priority=priority, outcome="shed").inc(),
        working=admission.set_device_count,
    )
