"""The response to a request that never reaches the app, as its head is malformed or a bound is reached."""

import json
import logging
from http import HTTPStatus

from app.errors import ServiceError, problem
from app.http_server.connections import Connections
from app.telemetry.logs import chosen_id, request_id
from app.telemetry.metrics import UNMATCHED
from app.telemetry.request_log import RequestRecord, record

logger = logging.getLogger(__name__)


def refusal(
    error: ServiceError, connections: Connections, client: tuple[str, int] | None, begun: bool = False
) -> bytes:
    """The whole response, after which the connection is closed; counts and logs it.

    `begun`: the app has the request already, and counts its end.
    """
    identity = chosen_id("")
    token = request_id.set(identity)
    try:
        logger.warning("refused a request from %s: %s", f"{client[0]}:{client[1]}" if client else "-", error)
        connections.metrics.rejected.labels(code=error.code).inc()
        if not begun:
            record(connections.metrics, RequestRecord("-", UNMATCHED, error.status, 0.0))
    finally:
        request_id.reset(token)
    return _response(error, identity, connections.default_headers)


def _response(error: ServiceError, identity: str, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    body = json.dumps(problem(error, identity)).encode()
    headers = {
        "content-type": "application/problem+json",
        "content-length": str(len(body)),
        "x-request-id": identity,
        "x-content-type-options": "nosniff",
        "connection": "close",
        **error.headers(),
    }
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        *(f"{name.decode()}: {value.decode()}" for name, value in default_headers),
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
