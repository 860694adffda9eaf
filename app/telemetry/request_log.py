"""The record of a finished request, over HTTP or gRPC: its metrics and its line in the log."""

import logging
from dataclasses import dataclass

from app.telemetry.metrics import Metrics

OPENED = 101  # of a web socket that was accepted

logger = logging.getLogger("app.access")


@dataclass(frozen=True)
class RequestRecord:
    """A finished request: `route` is a template, `method` "gRPC" for a call, a probe is logged at debug.

    `model`: the name of the model that answered, if one did.
    """

    method: str
    route: str
    status: int
    seconds: float
    probe: bool = False
    model: str | None = None


def record(metrics: Metrics, request: RequestRecord) -> None:
    """Count the request and log it."""
    metrics.requests.labels(route=request.route, status=str(request.status)).inc()
    if request.status != OPENED:  # a socket stays open as long as its client likes
        metrics.request_duration.labels(route=request.route).observe(request.seconds)
    fields: dict[str, str | int | float] = {
        "method": request.method,
        "route": request.route,
        "status": request.status,
        "ms": round(request.seconds * 1e3, 1),
    }
    if request.model is not None:
        fields["model"] = request.model
    level = logging.DEBUG if request.probe else logging.INFO
    logger.log(level, "%(method)s %(route)s %(status)d %(ms).1f ms", fields, extra=fields)
