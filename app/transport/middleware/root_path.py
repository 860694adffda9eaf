"""The path below which a proxy serves everything: requests come with it or without it."""

from http import HTTPStatus

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """Removes the prefix of RCNN_ROOT_PATH, or of the ASGI server, from a path; all links are relative."""

    def __init__(self, app: ASGIApp, prefix: str = "") -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection; the prefix alone is sent on to the page, whose links need the slash."""
        if (self._prefix or scope.get("root_path")) and scope["type"] in ("http", "websocket"):
            for prefix in filter(None, (self._prefix, scope.get("root_path"))):
                if scope["path"] == prefix and scope.get("method") in ("GET", "HEAD"):
                    location = prefix.rpartition("/")[2] + "/"
                    response = Response(None, HTTPStatus.PERMANENT_REDIRECT, {"Location": location})
                    await response(scope, receive, send)
                    return
                if scope["path"].startswith(f"{prefix}/"):
                    scope["path"] = scope["path"].removeprefix(prefix)
                    scope["raw_path"] = scope.get("raw_path", b"").removeprefix(prefix.encode())
                    break
            scope["root_path"] = ""
        await self._app(scope, receive, send)
