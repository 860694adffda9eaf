"""A slash behind the path of a route is left out, where no route has it."""

from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send


class TrailingSlash:
    """Sends `/detect/` to `/detect`: a redirect would lose the body with most clients."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection; the path is changed where a route has it without its slash only."""
        if scope["type"] in ("http", "websocket") and scope["path"].endswith("/"):
            path = scope["path"][:-1]
            shorter = {**scope, "path": path}
            if path.rstrip("/") and not _has_route(scope) and _has_route(shorter):
                scope["path"] = path
                scope["raw_path"] = scope.get("raw_path", b"").removesuffix(b"/")
        await self._app(scope, receive, send)


def _has_route(scope: Scope) -> bool:
    """Whether the app has the path, with any method."""
    return any(route.matches(scope)[0] is not Match.NONE for route in scope["app"].routes)
