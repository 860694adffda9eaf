"""The record of a finished request, over HTTP or gRPC: its metrics and its line in the log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from app.telemetry.metrics import Metrics

OPENED = 101  # of a web socket that was accepted

logger = logging.getLogger("app.access")


@dataclass
class RequestWork:
    """What was done for a request: its images, their objects, the longest time in the queue (seconds).

    `key` is the name of its key.
    """

    images: int = 0
    objects: int = 0
    queued: float = 0.0
    model: str | None = None
    key: str | None = None


_work: ContextVar[RequestWork | None] = ContextVar("request_work", default=None)


@contextmanager
def counting_work() -> Iterator[RequestWork]:
    """What the code inside, and the tasks that it starts, note of their images."""
    work = RequestWork()
    token = _work.set(work)
    try:
        yield work
    finally:
        _work.reset(token)


def note_image(model: str, objects: int, queued: float) -> None:
    """Count an image of the current request; `queued` in seconds."""
    if (work := _work.get()) is not None:
        work.images += 1
        work.objects += objects
        work.queued = max(work.queued, queued)
        work.model = model


def note_key(name: str) -> None:
    """Note the name of the current request's key."""
    if (work := _work.get()) is not None:
        work.key = name


def current_key() -> str | None:
    """The name of the current request's key, if it has one."""
    work = _work.get()
    return None if work is None else work.key


@dataclass(frozen=True)
class RequestRecord:
    """A finished request: `route` is a template, `method` "gRPC" for a call, a probe is logged at debug.

    `work`: its images; `trace_id`: of its span, if any; `client`: its address;
    `received`, `sent`: bytes of the bodies.
    """

    method: str
    route: str
    status: int
    seconds: float
    probe: bool = False
    work: RequestWork = field(default_factory=RequestWork)
    client: str | None = None
    received: int = 0
    sent: int = 0
    trace_id: str | None = None


def record(metrics: Metrics, request: RequestRecord) -> None:
    """Count the request and log it."""
    metrics.requests.labels(route=request.route, status=str(request.status)).inc()
    if request.status != OPENED:  # a socket stays open as long as its client likes
        exemplar = {"trace_id": request.trace_id} if request.trace_id else None
        metrics.request_duration.labels(route=request.route).observe(request.seconds, exemplar)
    if request.work.key is not None:
        metrics.key_requests.labels(key=request.work.key).inc()
    level = logging.DEBUG if request.probe else logging.INFO
    if logger.isEnabledFor(level):
        fields = _fields(request)
        logger.log(level, "%s", _text(fields), extra=fields)


def _fields(request: RequestRecord) -> dict[str, str | int | float]:
    """What a line of the log says of a request; what is not known is left out."""
    fields: dict[str, str | int | float] = {
        "method": request.method,
        "route": request.route,
        "status": request.status,
        "ms": round(request.seconds * 1e3, 1),
    }
    if request.client is not None:
        fields["client"] = request.client
    fields |= {"received": request.received, "sent": request.sent}
    work = request.work
    if work.key is not None:
        fields["key"] = work.key
    if work.model is not None:
        fields["model"] = work.model
    if work.images:
        queued = round(work.queued * 1e3, 1)
        fields |= {"images": work.images, "objects": work.objects, "queue_ms": queued}
    return fields


def _text(fields: dict[str, str | int | float]) -> str:
    """The fields as text: the first four by their place, the others by name."""
    named = [f"{name}={value}" for name, value in list(fields.items())[4:]]
    first = f"{fields['method']} {fields['route']} {fields['status']} {fields['ms']:.1f} ms"
    return " ".join((first, *named))
