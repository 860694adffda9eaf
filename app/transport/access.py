"""Access control: the keys that a request offers, the keys of the server, and the origins of web sockets."""

import binascii
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, WebSocket
from fastapi.security.utils import get_authorization_scheme_param

from app.errors import Forbidden, ForeignOrigin, InvalidParameter, Unauthorized, UnsupportedMediaType
from app.serving.service import DetectionService
from app.settings.api_keys import encoded, find_key
from app.telemetry.request_log import note_key
from app.transport.context import service_of
from app.transport.json_body import from_base64
from app.transport.middleware.body_limit import body_count

SUBPROTOCOL = "rcnn-live"
KEY_SUBPROTOCOL = "rcnn-key."
"""Prefix of a key in base64url: a browser cannot set headers of a web socket, and queries end up in logs."""


async def _keys_of_request(request: Request) -> tuple[str, ...]:
    return header_keys(request.headers)


OfferedKeys = Annotated[tuple[str, ...], Depends(_keys_of_request)]
"""The keys in the headers of a request, as a parameter of a route; `openapi.complete` documents them."""


def header_keys(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The keys in the headers of a request or the metadata of a gRPC call; names are in lower case."""
    scheme, token = get_authorization_scheme_param(headers.get("authorization"))
    bearer = token if scheme.lower() == "bearer" else None
    keys = (bearer, headers.get("x-api-key"), headers.get("doods-auth-key"))  # the last is DOODS's own
    return tuple(key for key in keys if key)


def check_key(service: DetectionService, offered: Iterable[str], also: str = "") -> None:
    """Raise Unauthorized unless one is a key of the server; all are compared, each in constant time.

    `also` names a place for the key that the protocol has beside the headers.
    """
    offered = list(offered)
    if not has_key(service, offered):
        reason = "this key is not valid" if offered else "no key was sent"
        raise Unauthorized(f"{reason}; send one as `Authorization: Bearer KEY` or `X-API-Key: KEY`{also}")


def has_key(service: DetectionService, offered: Iterable[str]) -> bool:
    """Whether one is a key of the server, or the server has no keys."""
    if not service.keys.required:
        return True
    name = service.keys.name_of(list(offered))
    if name:
        note_key(name)
    return name is not None


def shows_key(request: Request, offered: Iterable[str]) -> bool:
    """As `has_key`; if so, the body counts in the account of users from then on."""
    if shown := has_key(service_of(request), offered):
        body_count(request).show_key()
    return shown


@contextmanager
def key_in_body(request: Request, offered: Iterable[str], also: str) -> Iterator[None]:
    """While a body that may hold a key is read: without a key, a body that cannot be read is Unauthorized."""
    try:
        yield
    except (UnsupportedMediaType, InvalidParameter):
        check_key(service_of(request), offered, also)
        raise


def check_key_of(request: Request, offered: Iterable[str], also: str = "") -> None:
    """As `check_key`; from then on the body counts in the account of users."""
    check_key(service_of(request), offered, also)
    body_count(request).show_key()


def check_admin(service: DetectionService, offered: Iterable[str]) -> None:
    """Raise Unauthorized unless one is an admin key, Forbidden if the server has none."""
    keys, offered = service.settings.admin_keys, list(offered)
    if not keys:
        raise Forbidden(
            "loading models, captures and streams are off; to allow them, start the server with "
            "RCNN_ADMIN_KEYS"
        )
    if find_key(encoded(keys), offered) is None:
        reason = "this key may not load models or use captures and streams" if offered else "no key was sent"
        raise Unauthorized(
            f"{reason}; send one of RCNN_ADMIN_KEYS as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
        )


async def require_key(request: Request) -> None:
    """Refuse a request without a key of the server in its headers."""
    check_key_of(request, header_keys(request.headers))


async def require_admin(request: Request) -> None:
    """Refuse a request without an admin key in its headers."""
    check_admin(service_of(request), header_keys(request.headers))
    body_count(request).show_key()


async def check_origin(socket: WebSocket) -> None:
    """Raise ForeignOrigin for a page of another site: browsers let every page open web sockets anywhere."""
    origin = socket.headers.get("origin")
    allowed = service_of(socket).settings.allowed_origins
    if origin is None or "*" in allowed or origin.lower() in allowed:
        return  # not a browser, or a site in the settings
    host = socket.headers.get("host", "").lower()
    if not _is_origin_of(host, origin.lower(), getattr(socket.state, "proxied", False)):
        raise ForeignOrigin(
            f"the page's origin is {origin[:60]!r}; only pages of this server ({host[:60]!r}) and of "
            "RCNN_ALLOWED_ORIGINS may open web sockets here"
        )


def _is_origin_of(host: str, origin: str, proxied: bool) -> bool:
    """Whether a page of the origin comes from this host; many proxies leave out the port of Host."""
    parts = urlsplit(origin)
    if parts.netloc == host:
        return bool(host)
    return proxied and ":" not in host and parts.hostname == host


async def require_socket_key(socket: WebSocket) -> None:
    """Refuse a web socket without a key of the server in its headers or subprotocols."""
    also = f", or as a subprotocol: {KEY_SUBPROTOCOL!r} and the key in base64url"
    check_key(service_of(socket), [*header_keys(socket.headers), *_subprotocol_keys(socket)], also)


async def require_socket_admin(socket: WebSocket) -> None:
    """Refuse a web socket without a key of an administrator in its headers or subprotocols."""
    check_admin(service_of(socket), [*header_keys(socket.headers), *_subprotocol_keys(socket)])


def _subprotocol_keys(socket: WebSocket) -> Iterator[str]:
    for name in socket.scope.get("subprotocols", []):
        if name.startswith(KEY_SUBPROTOCOL):
            yield _from_base64url(name.removeprefix(KEY_SUBPROTOCOL))


def _from_base64url(text: str) -> str:
    """Decode unpadded base64url; "" where the text is none."""
    try:
        return from_base64(text.encode("ascii")).decode("utf-8", "replace")
    except (ValueError, binascii.Error):
        return ""
