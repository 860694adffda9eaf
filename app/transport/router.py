"""A router that knows the key its routes need and the dialect of their errors."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from fastapi import APIRouter, Depends
from starlette.routing import Match, Route
from starlette.types import Scope

from app.errors import PROBLEMS, Dialect
from app.transport.access import require_key

Access = Callable[..., Awaitable[None]]


class Router(APIRouter):
    """Routes with one tag in the documentation, one check of keys, and one dialect of errors."""

    def __init__(
        self,
        tag: str,
        description: str = "",
        *,
        dialect: Dialect = PROBLEMS,
        access: Access | None = require_key,
        prefix: str = "",
        operations: str = "",
    ) -> None:
        """`access`: the dependency that checks the key; None for routes that are open or check it themselves.

        `operations`: prefix of the operation ids in OpenAPI, which are the names of the functions.
        """
        super().__init__(
            prefix=prefix,
            tags=[tag],
            dependencies=[] if access is None else [Depends(access)],
            generate_unique_id_function=lambda route: operations + route.name,
        )
        self.tag = {"name": tag, "description": description}
        self.dialect = dialect

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Add a route; one for GET takes HEAD too, and the server leaves the body of its response out."""
        super().add_api_route(path, endpoint, **options)
        if set(options.get("methods") or ("GET",)) == {"GET"}:
            hidden = {"methods": ["HEAD"], "include_in_schema": False}
            super().add_api_route(path, endpoint, **{**options, **hidden})


class DialectLookup:
    """Finds the dialect in which a request is refused: that of the router that has its path, or covers it."""

    def __init__(self, routers: Sequence[Router]) -> None:
        self._routes = [
            (route, router.dialect)
            for router in routers
            for route in router.routes
            if router.dialect is not PROBLEMS and isinstance(route, Route)
        ]
        covered = {f"{path}/": router.dialect for router in routers for path in router.dialect.below}
        self._covered = sorted(covered.items(), key=lambda one: -len(one[0]))  # /v1/models before /v1

    def __call__(self, scope: Scope) -> Dialect:
        """The dialect of the route that took the request; before routing, of the one that would take it.

        A route of several protocols sets `dialect` in the request's state when it knows which one it is.
        """
        if (chosen := scope.get("state", {}).get("dialect")) is not None:
            return cast(Dialect, chosen)
        endpoint = scope.get("endpoint")
        for route, dialect in self._routes:
            if route.endpoint is endpoint if endpoint else route.matches(scope)[0] is Match.FULL:
                return dialect
        return PROBLEMS if endpoint else self._covering(scope)

    def _covering(self, scope: Scope) -> Dialect:
        path = scope["path"].removeprefix(scope.get("root_path", "")) + "/"
        return next((dialect for start, dialect in self._covered if path.startswith(start)), PROBLEMS)


def has_route(routers: Sequence[Router], method: str, path: str) -> bool:
    """Whether one of the routers takes requests of this method for this path."""
    scope: Scope = {"type": "http", "method": method, "path": path}
    return any(route.matches(scope)[0] is Match.FULL for router in routers for route in router.routes)


def openapi_tags(routers: Sequence[Router]) -> list[dict[str, str]]:
    """The tags of the documentation with their descriptions, each once."""
    return list({router.tag["name"]: router.tag for router in routers if router.tag["description"]}.values())
