"""What a trusted proxy says of the client: its address, scheme and host, and the path that it removed."""

from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class Forwarded:
    """Applies X-Forwarded-For, -Proto, -Host and -Prefix of trusted proxies; others' are ignored."""

    def __init__(self, app: Any, trusted: list[str] | str) -> None:
        """`trusted`: addresses and networks, or "*"."""
        self._app = ProxyHeadersMiddleware(app, trusted)
        self.proxies = self._app.trusted_hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One ASGI connection, of the client or of a proxy."""
        if scope["type"] != "lifespan":
            client = scope.get("client")
            if (client[0] if client else None) in self.proxies:
                _apply(scope)
        await self._app(scope, receive, send)


def _apply(scope: dict[str, Any]) -> None:
    said = {name: value for name, value in scope["headers"] if name.startswith(b"x-forwarded-")}
    if not said:
        return
    scope.setdefault("state", {})["proxied"] = True
    # Of several proxies the nearest one adds the last value.
    if host := said.get(b"x-forwarded-host", b"").rpartition(b",")[2].strip():
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [*others, (b"host", host)]
    prefix = said.get(b"x-forwarded-prefix", b"").rpartition(b",")[2].strip().decode("latin-1")
    if prefix.startswith("/"):
        scope["root_path"] = prefix.rstrip("/")
