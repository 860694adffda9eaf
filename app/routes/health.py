"""GET /health, /health/live, /health/ready, /metrics: what orchestrators and Prometheus ask; always open."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from app import version
from app.errors import RETRY_SECONDS
from app.schemas.status import Alive, DeviceHealth, Health, Readiness
from app.transport import openapi_examples
from app.transport.context import service_of
from app.transport.openapi_examples import shown

HEALTH: dict[int | str, dict[str, Any]] = {
    200: shown(openapi_examples.HEALTH),
    503: {"description": "Not ready: loading, draining or failing", "model": Health}
    | shown(openapi_examples.UNHEALTHY),
}
READY: dict[int | str, dict[str, Any]] = {
    200: shown(openapi_examples.READY),
    503: {"description": "Not ready, and why", "model": Readiness} | shown(openapi_examples.UNREADY),
}
ALIVE: dict[int | str, dict[str, Any]] = {200: shown({"status": "alive"})}
METRICS: dict[int | str, dict[str, Any]] = {200: shown(openapi_examples.METRICS, "text/plain")}

router = APIRouter(tags=["operation"])


@router.get("/health", summary="What runs here, and how it fares", response_model=Health, responses=HEALTH)
async def health(request: Request) -> Response:
    """200 when the service takes work, else 503; the same document in both."""
    service = service_of(request)
    serving = service.models.serving
    detector = serving.detector if serving else None
    answer = Health(
        status=service.status,
        model=detector.card.name if detector else None,
        model_version=detector.version if detector else None,
        loading=service.swapper.loading,
        device=detector.device if detector else None,
        devices=[
            DeviceHealth(device=name, state=device.state, reason=device.reason)
            for name, device in service.devices
        ],
        engine=detector.engine_name if detector else None,
        precision=detector.precision if detector else None,
        version=version(),
        queue_depth=service.queue_depth,
        uptime_seconds=round(service.uptime_seconds, 3),
        fallback_reason=detector.fallback_reason if detector else None,
    )
    return _answer(answer, ok=service.state == "ok")


@router.get("/health/live", summary="Whether the process answers", response_model=Alive, responses=ALIVE)
async def live() -> Response:
    """200 whenever the event loop turns: restart the process when this fails, never for anything else."""
    return _answer(Alive(status="alive"), ok=True)


@router.get("/health/ready", summary="Whether work is taken", response_model=Readiness, responses=READY)
async def ready(request: Request) -> Response:
    """200 when the weights are loaded, the warm-up is done, a device works and nothing drains."""
    service = service_of(request)
    answer = Readiness(ready=service.state == "ok", status=service.status, reason=service.reason)
    return _answer(answer, ok=answer.ready)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses=METRICS)
async def metrics(request: Request) -> Response:
    """Every series in Prometheus' text format."""
    body, media_type = service_of(request).metrics.render()
    return Response(body, media_type=media_type)


def _answer(value: Health | Alive | Readiness, *, ok: bool) -> Response:
    headers = {"Cache-Control": "no-store"} | ({} if ok else {"Retry-After": str(int(RETRY_SECONDS))})
    return Response(
        to_json(value), status_code=200 if ok else 503, media_type="application/json", headers=headers
    )
