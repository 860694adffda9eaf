"""Options of a request: checked by their declaration, given once, with the priority of the header."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Query
from pydantic import ValidationError, WithJsonSchema
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from app.batching.item import HIGHEST, LOWEST
from app.errors import InvalidParameter
from app.schemas.limits import MAX_QUERY_PARAMETERS, MAX_QUOTED
from app.schemas.options import DetectOptions, ModelName, ModelOptions, OptionSet
from app.telemetry.metrics import Metrics
from app.transport.middleware.request_context import Dialects, error_response

S = TypeVar("S", bound=OptionSet)
D = TypeVar("D", bound=DetectOptions)

PRIORITY_HEADER = "X-Priority"
PriorityHeader = Annotated[
    str | None,
    Header(alias=PRIORITY_HEADER, description="As the option `priority`, for clients that cannot set it."),
    WithJsonSchema({"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}),
]
"""The header as a parameter of a route. A text: it is checked only where the query has no priority."""

ModelQuery = Annotated[
    ModelName | None, Query(description="Name of the model, or an alias; the default is the default model.")
]
"""The query parameter of routes that are about one model."""

LISTS = tuple(
    name for name, field in ModelOptions.model_fields.items() if isinstance(field.get_default(), list)
)
"""Options that may be given several times."""

_PRIORITIES = {str(number): number for number in range(LOWEST, HIGHEST + 1)}


class QueryLimit:
    """Refuses a query of too many parameters before anything parses it, for every route."""

    def __init__(self, app: ASGIApp, metrics: Metrics, dialects: Dialects) -> None:
        self._app = app
        self._metrics = metrics
        self._dialects = dialects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        count = scope.get("query_string", b"").count(b"&") + 1
        if count <= MAX_QUERY_PARAMETERS:
            await self._app(scope, receive, send)
            return
        error = InvalidParameter(
            f"the query has {count} parameters, {MAX_QUERY_PARAMETERS} are allowed; leave out what is no "
            "option, and separate the names in `classes` by commas"
        )
        await error_response(error, self._metrics, self._dialects(scope))(scope, receive, send)


def read_options(values: Mapping[str, object], options: type[S]) -> S:
    """Options by their names; raises InvalidParameter for an unknown one and for a value out of range."""
    try:
        return options.model_validate(values)
    except ValidationError as error:
        raise InvalidParameter(error.errors(include_url=False)[0]["msg"]) from error


def query_options(options: type[S]) -> Any:
    """The dependency of a route: the options in its query; raises InvalidParameter.

    FastAPI's `Query()` inspects the annotation of each option anew for each request, which took a fifth of
    the event loop's time. `openapi.query_parameters` documents them.
    """
    defaults = options()

    async def read(connection: HTTPConnection) -> S:
        query = connection.query_params
        if not query:
            return defaults
        found = read_options({name: _value(query, name) for name in query}, options)
        _check_given_once(query)
        return found

    return Depends(read)


def _value(query: QueryParams, name: str) -> str | list[str]:
    return query.getlist(name) if name in LISTS else query[name]


def _check_given_once(query: QueryParams) -> None:
    """Raises InvalidParameter for an option that was given several times and is no list."""
    for name in query:
        if name not in LISTS and (count := len(query.getlist(name))) > 1:
            raise InvalidParameter(f"{name} was given {count} times; give it once")


def with_body_options(options: D, values: Mapping[str, object]) -> D:
    """The options of the query and of the body; raises InvalidParameter for one given in both."""
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return options
    others = read_options(given, type(options))
    if twice := [name for name in given if name in options.model_fields_set]:
        raise InvalidParameter(f"{twice[0]} was given in the query and in the body; give it once")
    return options.model_copy(update={name: getattr(others, name) for name in given})


def one_model(options: ModelOptions) -> str | None:
    """The model that the options name, None for none; raises InvalidParameter for several."""
    if len(options.model) > 1:
        raise InvalidParameter(
            f"model: {len(options.model)} models are named; POST /detect takes several for one image, with "
            "format=json; name one here"
        )
    return options.model[0] if options.model else None


def with_priority(options: D, priority_header: str | None) -> D:
    """The options, with the priority of the header if they have none; raises InvalidParameter."""
    if options.priority is not None or priority_header is None:
        return options
    return options.model_copy(update={"priority": parse_priority(priority_header)})


def parse_priority(text: str) -> int:
    """The priority in the header; raises InvalidParameter."""
    if (priority := _PRIORITIES.get(text.strip())) is None:
        raise InvalidParameter(
            f"{PRIORITY_HEADER}: {text[:MAX_QUOTED]!r}; send 0 (the lowest), 1 or 2 (the highest)"
        )
    return priority
