"""Middleware of Ray's HTTP proxy, before all replicas: request id, clock, bounds, and errors as problems.

Ray finds `middlewares` by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH. This reads no image and keeps no queue:
Ray chooses the replica of a request, and holds requests while all replicas are full.
"""

import asyncio
import time
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTooLarge, DeadlineExceeded, Failing, Loading, Overloaded, ServiceError
from app.main import ROUTERS
from app.settings.settings import Settings
from app.telemetry.logs import chosen_id, request_id
from app.telemetry.metrics import Metrics
from app.transport.middleware.cors import Cors
from app.transport.middleware.request_context import error_response
from app.transport.router import DialectLookup

REQUEST_START = "X-Request-Start"
CALLBACK = "app.distributed.proxy:middlewares"
RAY_ROUTES = "/-/"  # Ray's own: its health, its routes
LATER_SECONDS = 1.0
GRACE_SECONDS = 2.0  # a replica that has the request answers 504 itself
# Headers by which a client could change how Ray handles its request.
RAY_HEADERS = ("x-request-timeout-seconds", "x-request-disconnect-disabled")
DISCONNECT: Message = {"type": "http.disconnect"}


def middlewares() -> list[Middleware]:
    """The middlewares that Ray's proxy adds."""
    return [Middleware(ProxyMiddleware, settings=Settings())]


class ProxyMiddleware:
    """Passes every request to the replicas; errors of Ray itself become problems of this service."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._metrics = Metrics()
        self._dialects = DialectLookup(ROUTERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith(RAY_ROUTES):
            await self._app(scope, receive, send)
            return
        request = ProxiedRequest(scope, receive, send, self._settings)
        await self._app(request.scope, request.receive, request.send)
        error = request.error
        if error is not None and scope["type"] == "http":
            token = request_id.set(request.id)
            response: ASGIApp = error_response(
                error, self._metrics, self._dialects(scope), {"X-Request-ID": request.id}
            )
            if self._settings.allowed_origins:  # a replica's own response has these headers already
                response = Cors(response, self._settings.allowed_origins)
            await response(scope, receive, send)
            request_id.reset(token)


class ProxiedRequest:
    """One request on its way through Ray's proxy."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings) -> None:
        headers = Headers(scope=scope)
        self.id = chosen_id(headers.get("x-request-id", ""))
        self.scope = _stamped(scope, self.id)
        self._receive, self._send = receive, send
        self._max_bytes, self._bytes = settings.max_body_bytes, 0
        self._deadline = asyncio.get_running_loop().time() + _timeout_seconds(scope, settings)
        self._timer: asyncio.Timeout | None = None
        self._responding = self._disconnected = False
        self._error: ServiceError | None = None

    @property
    def error(self) -> ServiceError | None:
        """What to answer when Ray is done with the request; None where a replica has answered."""
        if self._responding or (self._disconnected and self._error is None):
            return None
        return self._error or Failing(
            "the replica that worked on this request is gone; send it again", LATER_SECONDS
        )

    async def receive(self) -> Message:
        """The next message of the client; a disconnect where the body is too large or the deadline passed."""
        if self._error is not None:
            return DISCONNECT
        try:
            async with asyncio.timeout_at(None if self._responding else self._deadline) as self._timer:
                message = await self._receive()
        except TimeoutError:
            self._error = DeadlineExceeded("no replica took the request in its time; send it again later")
            return DISCONNECT
        self._disconnected = self._disconnected or message["type"] == DISCONNECT["type"]
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._max_bytes:
            self._error = BodyTooLarge(
                f"the body has more than the {self._max_bytes} bytes allowed; send a smaller image"
            )
            return DISCONNECT
        return message

    async def send(self, message: Message) -> None:
        """Pass a replica's message to the client; keep an error of Ray itself for `error`."""
        if not self._responding:
            self._start_response(message)
        if self._responding:
            await self._send(message)

    def _start_response(self, message: Message) -> None:
        if message["type"] not in ("http.response.start", "websocket.accept", "websocket.close"):
            return
        headers = MutableHeaders(scope=message)
        if message["type"] == "http.response.start":
            self._error = self._error or _ray_error(message["status"], headers)
            if self._error is not None:
                return
        self._responding = True
        if "x-request-id" in headers:
            del headers["x-request-id"]  # the replica and Ray have set one each
            headers["X-Request-ID"] = self.id
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(None)  # the response has begun and may take its time


def _stamped(scope: Scope, request_id: str) -> Scope:
    """The scope for Ray, with the id of the request and the time when it arrived."""
    stamped = {**scope, "headers": list(scope["headers"])}
    headers = MutableHeaders(scope=stamped)
    for name in RAY_HEADERS:
        del headers[name]
    headers["x-request-id"] = request_id
    headers[REQUEST_START] = f"t={time.time():.6f}"
    return stamped


def _timeout_seconds(scope: Scope, settings: Settings) -> float:
    """Seconds until the request fails without a replica: its own timeout and some grace."""
    text = parse_qs(scope["query_string"].decode("latin-1")).get("timeout_ms", [""])[-1]
    timeout_ms = int(text[:9]) if text.isascii() and text.isdigit() else settings.timeout_ms
    return min(timeout_ms, settings.timeout_ms) / 1000 + GRACE_SECONDS


def _ray_error(status: int, headers: Headers) -> ServiceError | None:
    """The error for one of Ray's proxy; None for a replica's own, which is never plain text."""
    if status < HTTPStatus.BAD_REQUEST or not headers.get("content-type", "").startswith("text/plain"):
        return None
    match status:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return Overloaded("every replica is full; try again in 1 s", LATER_SECONDS)
        case HTTPStatus.REQUEST_TIMEOUT:
            return DeadlineExceeded("no replica answered in time; send the request again later")
        case HTTPStatus.NOT_FOUND:
            return Loading("no replica has been started yet; ask again soon", LATER_SECONDS)
        case _:
            return Failing("no replica can take the request; send it again", LATER_SECONDS)
