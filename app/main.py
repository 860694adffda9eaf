"""Where the service is put together: the only place that builds objects; at import it does nothing."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from fastapi import Depends, FastAPI

from app import version
from app.admission import Admission
from app.batcher import Batcher, BatchEvents, BatchLimits
from app.fetch import Fetcher
from app.loading import free, load
from app.metrics import Metrics
from app.middleware import BodyLimit, RequestContext, error_handlers
from app.model import Detector, Inferred, Job, Model
from app.routes import (
    access,
    catalogue,
    deepstack,
    detect,
    documents,
    dropin,
    health,
    huggingface,
    kserve,
    live,
    loads,
    openinference,
    page,
    roboflow,
    stream,
    torchserve,
)
from app.service import DetectionService
from app.settings import Settings
from app.streams import Places

LAST_CALLS_SECONDS = 1  # for answers over gRPC on their way; an idle client is slow to notice the end
DESCRIPTION = "Object detection with Faster R-CNN: an image in, boxes, labels and scores out."

ROUTERS = (
    *(detect.router, stream.router, catalogue.router, health.router, documents.router, page.router),
    *(live.router, loads.router, loads.index, loads.repository),
    *(deepstack.router, huggingface.router, kserve.router, roboflow.router),
    *(openinference.router, openinference.probes),
    *(torchserve.predictions, torchserve.pings),
)
# The clients of DeepStack and Roboflow send their key in the body, browsers that of a web socket as its
# subprotocol: those routes look for it themselves.
GUARDED = (
    *(detect.router, stream.router, catalogue.router, huggingface.router, kserve.router),
    *(openinference.router, loads.index, torchserve.predictions),
)
SPOKEN = (
    (deepstack.router, deepstack.DIALECT),
    (huggingface.router, huggingface.DIALECT),
    (kserve.router, kserve.DIALECT),
    (openinference.router, openinference.DIALECT),
    (openinference.probes, openinference.DIALECT),
    (loads.index, openinference.DIALECT),
    (loads.repository, openinference.DIALECT),
    (roboflow.router, roboflow.DIALECT),
    (torchserve.predictions, torchserve.DIALECT),
    (torchserve.pings, torchserve.DIALECT),
)


def create_app(
    settings: Settings | None = None,
    detector: Detector | None = None,
    loader: Callable[[str], Detector] | None = None,
) -> FastAPI:
    """The service as an ASGI application; serves `detector`, or what `loader` makes of a name, if given."""
    settings = settings or Settings()
    metrics = Metrics()
    if loader or detector:
        model = Model(loader or (lambda _: cast(Detector, detector)), metrics)
    else:
        model = Model(partial(load, settings), metrics, free)
    service = _service(settings, metrics, model)
    dialects = dropin.Dialects(SPOKEN)
    app = FastAPI(
        title="rcnn-serve",
        description=DESCRIPTION,
        version=version(),
        lifespan=_lifespan,
        exception_handlers=error_handlers(metrics, dialects),
        openapi_url=None,  # app/routes/documents.py serves it and the documentation, without a CDN
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.fetcher = Fetcher(settings.max_body_bytes)
    app.state.places = Places(settings.max_streams, metrics)
    app.add_middleware(
        BodyLimit,
        metrics=metrics,
        per_request=settings.max_body_bytes,
        in_total=settings.max_queue_bytes,
        dialects=dialects,
    )
    app.add_middleware(
        RequestContext, metrics=metrics, dialects=dialects
    )  # the last one added is the outermost
    for router in ROUTERS:
        key = [Depends(access.require_key)] if router in GUARDED else []
        app.include_router(router, dependencies=key)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: DetectionService = app.state.service
    service.start()
    calls = await _listen_for_calls(service)
    yield
    await service.close()
    if calls is not None:
        await calls.stop(LAST_CALLS_SECONDS)


async def _listen_for_calls(service: DetectionService) -> Any:
    """The gRPC server, where the settings ask for one; raises OSError where its port is taken."""
    settings = service.settings
    if not settings.grpc_port:
        return None
    from app.rpc.server import listen  # an optional dependency

    server, _ = await listen(service, settings.host, settings.grpc_port)
    return server


def _service(settings: Settings, metrics: Metrics, model: Model) -> DetectionService:
    admission = Admission(settings.max_queue, settings.max_queue_bytes)
    limits = BatchLimits(settings.max_batch, settings.batch_wait_ms / 1000)
    batcher: Batcher[Job, Inferred] = Batcher(model.run, limits, _events(metrics, admission))
    service = DetectionService(settings, metrics, model, admission, batcher)
    metrics.queue_depth.set_function(lambda: batcher.depth)
    metrics.queue_bytes.set_function(lambda: admission.bytes)
    metrics.in_flight.set_function(lambda: admission.depth)
    metrics.model_ready.set_function(lambda: service.state == "ok")
    return service


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
    )
