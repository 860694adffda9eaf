"""Refuses requests for other hosts, before anything else of them is looked at.

A page of another site can make its own name resolve to this machine (DNS rebinding); its requests then pass
every check of origins, but they still name that host.
"""

from collections.abc import Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import HostNotAllowed
from app.schemas.limits import MAX_QUOTED
from app.telemetry.metrics import Metrics
from app.transport.middleware.request_context import Dialects, error_response, only_problems
from app.transport.probes import Probes


class AllowedHosts:
    """Answers 421 unless every header Host names one of `hosts`; a probe may use an address."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        hosts: Sequence[str],
        dialects: Dialects = only_problems,
        probes: Probes | None = None,
    ) -> None:
        self._app = app
        self._probes = probes or Probes()
        self._metrics = metrics
        self._dialects = dialects
        self._hosts = {_normal(host) for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection; a request without Host comes from no browser."""
        if scope["type"] in ("http", "websocket"):
            sent = [_without_port(value) for value in Headers(scope=scope).getlist("host")]
            refused = [host for host in sent if not self._is_allowed(host, scope["path"])]
            if refused:
                error = HostNotAllowed(
                    f"this server does not answer for the host {refused[0][:MAX_QUOTED]!r}; to allow "
                    "it, add it to RCNN_ALLOWED_HOSTS"
                )
                response = error_response(error, self._metrics, self._dialects(scope))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, host: str, path: str) -> bool:
        return host in self._hosts or (path in self._probes and _is_address(host))


def _without_port(value: str) -> str:
    end = value.rfind("]") + 1  # of an IPv6 address, whose colons are no port
    return _normal(value[:end] if end else value.partition(":")[0])


def _normal(host: str) -> str:
    """In lower case, without the dot of a full name, IPv6 in brackets."""
    host = host.strip().lower().removesuffix(".")
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
