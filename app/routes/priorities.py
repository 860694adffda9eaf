"""The priority of a request, as far as its head says it: in the query, or else in the header X-Priority."""

from typing import Any

from starlette.requests import HTTPConnection

from app.caller import HIGHEST, LOWEST, NORMAL
from app.errors import InvalidParameter

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


def door_priority(request: HTTPConnection) -> int:
    """With which a request waits at the door: what its head says, before anybody has checked it."""
    said = request.query_params.get("priority") or request.headers.get(HEADER, "")
    return _KNOWN.get(said.strip(), NORMAL)
