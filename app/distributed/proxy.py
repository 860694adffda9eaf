"""In front of all replicas, inside Ray's HTTP proxy: a request's id and clock, honest words for failures.

Ray finds `middlewares` by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH. The door reads no image and keeps no
queue: which replica gets a request, and who waits while all are full, is Ray's affair.
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
from app.transport.middleware import error_response
from app.transport.router import DialectLookup

REQUEST_START = "X-Request-Start"
CALLBACK = "app.distributed.proxy:middlewares"
RAYS_OWN = "/-/"  # its health and its routes
LATER_SECONDS = 1.0
GRACE_SECONDS = 2.0  # a replica that has the request says itself that its time is up
# Headers by which a client could change Ray's own handling of its request.
NOT_FOR_CLIENTS = ("x-request-timeout-seconds", "x-request-disconnect-disabled")
GONE: Message = {"type": "http.disconnect"}


def middlewares() -> list[Middleware]:
    """What Ray's proxy puts around itself."""
    return [Middleware(ProxyMiddleware, settings=Settings())]


class ProxyMiddleware:
    """Takes every request to the replicas; what Ray itself would answer becomes a problem of ours."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._metrics = Metrics()
        self._dialects = DialectLookup(ROUTERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith(RAYS_OWN):
            await self._app(scope, receive, send)
            return
        passage = ProxiedRequest(scope, receive, send, self._settings)
        await self._app(passage.scope, passage.receive, passage.send)
        refusal = passage.verdict
        if refusal is not None and scope["type"] == "http":
            token = request_id.set(passage.identity)
            response = error_response(
                refusal, self._metrics, self._dialects(scope), {"X-Request-ID": passage.identity}
            )
            await response(scope, receive, send)
            request_id.reset(token)


class ProxiedRequest:
    """One request on its way through the door."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings) -> None:
        headers = Headers(scope=scope)
        self.identity = chosen_id(headers.get("x-request-id", ""))
        self.scope = _stamped(scope, self.identity)
        self._receive, self._send = receive, send
        self._most_bytes, self._bytes = settings.max_body_bytes, 0
        self._give_up = asyncio.get_running_loop().time() + _patience(scope, settings)
        self._timer: asyncio.Timeout | None = None
        self._begun = self._left = False
        self._refusal: ServiceError | None = None

    @property
    def verdict(self) -> ServiceError | None:
        """What to tell the client when Ray is done with its request; None where it has its answer."""
        if self._begun or (self._left and self._refusal is None):
            return None
        return self._refusal or Failing(
            "the replica that worked on this request is gone; send it again", LATER_SECONDS
        )

    async def receive(self) -> Message:
        """The next message of the client; its end, where body or time are used up."""
        if self._refusal is not None:
            return GONE
        try:
            async with asyncio.timeout_at(None if self._begun else self._give_up) as self._timer:
                message = await self._receive()
        except TimeoutError:
            self._refusal = DeadlineExceeded("no replica took the request in its time; send it again later")
            return GONE
        self._left = self._left or message["type"] == GONE["type"]
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._most_bytes:
            self._refusal = BodyTooLarge(
                f"the body has more than the {self._most_bytes} bytes allowed; send a smaller image"
            )
            return GONE
        return message

    async def send(self, message: Message) -> None:
        """A message for the client: a replica's as it is, what Ray says itself is kept for the verdict."""
        if not self._begun:
            self._begin(message)
        if self._begun:
            await self._send(message)

    def _begin(self, message: Message) -> None:
        if message["type"] not in ("http.response.start", "websocket.accept", "websocket.close"):
            return
        headers = MutableHeaders(scope=message)
        if message["type"] == "http.response.start":
            self._refusal = self._refusal or _rays_own_words(message["status"], headers)
            if self._refusal is not None:
                return
        self._begun = True
        if "x-request-id" in headers:
            del headers["x-request-id"]  # the replica's and Ray's: one is enough
            headers["X-Request-ID"] = self.identity
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(None)  # an answer has begun: how long it takes is its own affair


def _stamped(scope: Scope, identity: str) -> Scope:
    """The scope for Ray: the id that this request has everywhere, and when it came through the door."""
    stamped = {**scope, "headers": list(scope["headers"])}
    headers = MutableHeaders(scope=stamped)
    for name in NOT_FOR_CLIENTS:
        del headers[name]
    headers["x-request-id"] = identity
    headers[REQUEST_START] = f"t={time.time():.6f}"
    return stamped


def _patience(scope: Scope, settings: Settings) -> float:
    """Seconds after which nobody waits for a replica any more: the request's deadline and a little."""
    asked = parse_qs(scope["query_string"].decode("latin-1")).get("timeout_ms", [""])[-1]
    own = int(asked[:9]) if asked.isascii() and asked.isdigit() else settings.timeout_ms
    return min(own, settings.timeout_ms) / 1000 + GRACE_SECONDS


def _rays_own_words(status: int, headers: Headers) -> ServiceError | None:
    """Our word for an error of Ray's proxy; None for what a replica says, which is never plain text."""
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
