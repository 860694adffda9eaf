"""The priority of a request, as far as its head says it: in the query, or else in the header X-Priority."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import HTTPConnection

from app.batching.item import HIGHEST, LOWEST, NORMAL
from app.errors import InvalidParameter
from app.schemas.options import DetectOptions
from app.transport.body import _SHOWN

HEADER = "X-Priority"
PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "As the option `priority`, for clients that cannot set it.",
    "schema": {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST},
}

_KNOWN = {str(number): number for number in range(LOWEST, HIGHEST + 1)}


def header_priority(request: HTTPConnection) -> int | None:
    """What the header says, None without it; raises InvalidParameter."""
    said = request.headers.get(HEADER)
    if said is None:
        return None
    if (number := _KNOWN.get(said.strip())) is None:
        raise InvalidParameter(f"{HEADER}: {said[:60]!r}; send 0 (the lowest), 1 or 2 (the highest)")
    return number


def requested_priority(request: HTTPConnection) -> int:
    """With which a request waits at the door: what its head says, before anybody has checked it."""
    said = request.query_params.get("priority") or request.headers.get(HEADER, "")
    return _KNOWN.get(said.strip(), NORMAL)


Q = TypeVar("Q", bound=DetectOptions)


def read_query(request: HTTPConnection, model: type[Q]) -> Q:
    """The request's options; raises InvalidParameter for one that is unknown, repeated or out of range."""
    given = request.query_params
    values: dict[str, str | list[str]] = {}
    for name in given:
        values[name] = given.getlist(name)
        if name == "classes" or name not in model.model_fields:
            continue
        if len(values[name]) > 1:
            raise InvalidParameter(f"{name} was given {len(values[name])} times; give it once")
        values[name] = given[name]
    if "priority" not in values and (said := header_priority(request)) is not None:
        values["priority"] = str(said)
    return read_options(values, model)


def read_options(values: Mapping[str, object], model: type[Q]) -> Q:
    """Options by their names; raises InvalidParameter for one that is unknown or out of range."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidParameter(_explain(error, model)) from error


def _explain(error: ValidationError, model: type[DetectOptions]) -> str:
    """Every fault as "name=value: what is wrong. What the parameter is"."""
    faults = []
    for fault in error.errors(include_url=False):
        name = str(fault["loc"][0])[:_SHOWN]
        if fault["type"] == "extra_forbidden":
            faults.append(f"unknown query parameter {name!r}; allowed are {', '.join(model.model_fields)}")
            continue
        message = fault["msg"][0].lower() + fault["msg"][1:]
        faults.append(
            f"{name}={str(fault['input'])[:_SHOWN]!r}: {message}. {model.model_fields[name].description}"
        )
    return "; ".join(faults[:5])
