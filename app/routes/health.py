"""GET /health, /health/live, /health/ready and /metrics: for orchestrators and Prometheus; need no key.

Also /healthz, /livez and /readyz, as Kubernetes calls them.
"""

from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json

from app import version
from app.captures.recorder import CaptureRecorder
from app.errors import RETRY_SECONDS
from app.schemas.captures import CaptureBounds
from app.schemas.status import Alive, DeviceHealth, Health, ModelHealth, Readiness
from app.serving.models.states import model_states
from app.transport import openapi_examples
from app.transport.compression import compressed
from app.transport.context import service_of
from app.transport.openapi_examples import shown
from app.transport.router import Router
from app.transport.threads import run_sized

HEALTH: dict[int | str, dict[str, Any]] = {
    200: shown(openapi_examples.HEALTH),
    503: {"description": "Not ready: loading, draining or failing", "model": Health}
    | shown(openapi_examples.UNHEALTHY),
}
READY: dict[int | str, dict[str, Any]] = {
    200: shown(openapi_examples.READY),
    503: {"description": "Not ready, with the reason", "model": Readiness} | shown(openapi_examples.UNREADY),
}
ALIVE: dict[int | str, dict[str, Any]] = {200: shown({"status": "alive"})}
METRICS: dict[int | str, dict[str, Any]] = {200: shown(openapi_examples.METRICS, "text/plain")}

router = Router("operation", "Health, metrics and the loading of models.", access=None)


@router.get("/healthz", include_in_schema=False)
@router.get("/health", summary="Health of the service", response_model=Health, responses=HEALTH)
async def get_health(request: Request) -> Response:
    """200 when the service accepts requests, else 503; the same document in both."""
    service = service_of(request)
    serving = service.models.serving
    detector = serving.detector if serving else None
    captures: CaptureRecorder | None = request.app.state.captures
    health = Health(
        status=service.status,
        model=detector.card.name if detector else None,
        model_version=detector.version if detector else None,
        loading=service.loads.loading,
        device=detector.device if detector else None,
        devices=[
            DeviceHealth(device=name, state=device.state, reason=device.reason)
            for name, device in service.devices
        ],
        engine=detector.engine_name if detector else None,
        precision=detector.precision if detector else None,
        precision_reason=detector.precision_choice.reason if detector else None,
        models=[ModelHealth(**vars(state)) for state in model_states(service.models, service.loads)],
        version=version(),
        queue_depth=service.queue_depth,
        uptime_seconds=round(service.uptime_seconds, 3),
        fallback_reason=detector.fallback_reason if detector else None,
        hint=detector.hint if detector else None,
        captures=None if captures is None else CaptureBounds.model_validate(captures.bounds()),
    )
    return _response(health, ok=service.ready)


@router.get("/livez", include_in_schema=False)
@router.get("/health/live", summary="Liveness", response_model=Alive, responses=ALIVE)
async def get_liveness() -> Response:
    """200 while the event loop runs: restart the process only when this fails."""
    return _response(Alive(status="alive"), ok=True)


@router.get("/readyz", include_in_schema=False)
@router.get("/health/ready", summary="Readiness", response_model=Readiness, responses=READY)
async def get_readiness(request: Request) -> Response:
    """200 when the model is loaded and warmed up, a device works and the service does not drain."""
    service = service_of(request)
    readiness = Readiness(ready=service.ready, status=service.status, reason=service.reason)
    return _response(readiness, ok=readiness.ready)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses=METRICS)
async def get_metrics(request: Request) -> Response:
    """All metrics in Prometheus' text format, or in OpenMetrics as Accept asks; in gzip as allowed."""
    accepted = request.headers.get("accept-encoding")
    body, media_type = service_of(request).metrics.render(request.headers.get("accept", ""))
    body, headers = await run_sized(len(body), compressed, body, accepted)
    return Response(body, media_type=media_type, headers={**headers, "Vary": "Accept, Accept-Encoding"})


def _response(value: Health | Alive | Readiness, *, ok: bool) -> Response:
    headers = {"Cache-Control": "no-store"} | ({} if ok else {"Retry-After": str(int(RETRY_SECONDS))})
    return Response(
        to_json(value), status_code=200 if ok else 503, media_type="application/json", headers=headers
    )
