"""The keys of the server, and whether a caller has one of them; in whichever protocol it came."""

import binascii
import hmac
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from fastapi import Request, Response, WebSocket
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from app.errors import Forbidden, ForeignOrigin, Unauthorized
from app.serving.service import DetectionService
from app.transport.context import service_of


class Secret(Protocol):
    """A key as the settings hold it."""

    def get_secret_value(self) -> str: ...


def check_key(service: DetectionService, offered: Iterable[str], also: str = "") -> None:
    """Raise Unauthorized unless one is a key of the server's; all are compared, each in constant time.

    `also` names another place than the headers that the protocol has for its key.
    """
    keys = service.settings.api_keys
    given = list(offered)
    if keys and not _any_matches(keys, given):
        wrong = "this key is not valid" if given else "no key was sent"
        raise Unauthorized(f"{wrong}; send one as `Authorization: Bearer KEY` or `X-API-Key: KEY`{also}")


def check_admin(service: DetectionService, offered: Iterable[str]) -> None:
    """Raise Unauthorized unless one is a key that may load models, Forbidden where there is no such key."""
    keys = service.settings.admin_keys
    if not keys:
        raise Forbidden("loading models is off; to allow it, start the server with RCNN_ADMIN_KEYS")
    given = list(offered)
    if not _any_matches(keys, given):
        wrong = "this key may not load models" if given else "no key was sent"
        raise Unauthorized(
            f"{wrong}; send one of RCNN_ADMIN_KEYS as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
        )


def _any_matches(keys: Sequence[Secret], offered: Sequence[str]) -> bool:
    given = [text.encode("utf-8", "surrogatepass") for text in offered]
    matches = [
        hmac.compare_digest(key.get_secret_value().encode(), candidate) for key in keys for candidate in given
    ]
    return any(matches)


SUBPROTOCOL = "rcnn-live"


KEY_SUBPROTOCOL = "rcnn-key."
"""Before a key in base64url: a browser can give a web socket no header, and a query ends up in logs."""


def offered_keys(request: HTTPConnection) -> tuple[str, ...]:
    """The keys in the request's headers; app/transport/openapi.py documents where they may be."""
    return header_keys(request.headers)


def header_keys(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The keys in the headers of a request or the metadata of a gRPC call; names are in lower case."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    keys = (bearer.strip() if scheme.lower() == "bearer" else "", headers.get("x-api-key"))
    return tuple(key for key in keys if key)


async def require_key(request: Request) -> None:
    """Refuse a caller without a key of the server's in its headers."""
    check_key(service_of(request), offered_keys(request))


class Guarded(APIRoute):
    """A route that is a key's check and an endpoint from request to response, with nothing to solve between.

    Where FastAPI calls the same check as a dependency, every request pays for its solving a tenth of a
    millisecond: too much on the way that nearly all of them take.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What FastAPI calls with each request."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            await require_key(request)
            return await endpoint(request)

        return handle


async def require_admin(request: Request) -> None:
    """Refuse a caller without a key in its headers that may load models."""
    check_admin(service_of(request), offered_keys(request))


def check_origin(socket: WebSocket) -> None:
    """Raise ForeignOrigin for a page of another site: browsers let every page open web sockets anywhere."""
    origin = socket.headers.get("origin")
    allowed = service_of(socket).settings.allowed_origins
    if origin is None or origin.lower() in [one.lower().rstrip("/") for one in allowed]:
        return  # no browser's, or a site that the settings name
    host = urlsplit(origin).netloc.lower()
    if not host or host != socket.headers.get("host", "").lower():
        raise ForeignOrigin(
            f"this is a page of {origin[:60]!r}; only those of this server and of RCNN_ALLOWED_ORIGINS may"
        )


def require_socket_key(socket: WebSocket) -> None:
    """Refuse a web socket without a key of the server's in its headers or subprotocols."""
    also = f", or in base64url behind {KEY_SUBPROTOCOL!r} as a subprotocol"
    check_key(service_of(socket), list(_socket_keys(socket)), also)


def _socket_keys(socket: WebSocket) -> Iterator[str]:
    yield from offered_keys(socket)
    for name in socket.scope.get("subprotocols", []):
        if name.startswith(KEY_SUBPROTOCOL):
            yield _from_base64url(name.removeprefix(KEY_SUBPROTOCOL))


def _from_base64url(text: str) -> str:
    """What a text is the unpadded base64url of; "" where it is none."""
    try:
        padded = text.translate({ord("-"): "+", ord("_"): "/"}) + "=" * (-len(text) % 4)
        return binascii.a2b_base64(padded, strict_mode=True).decode("utf-8", "replace")
    except (ValueError, binascii.Error):
        return ""
