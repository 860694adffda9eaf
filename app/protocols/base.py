"""What the protocols of other servers have in common: their requests take the road of /detect."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from fastapi import APIRouter, Request
from starlette.routing import Match, Route
from starlette.types import Scope

from app.errors import PROBLEMS, Dialect
from app.serving.request import DetectParams, DrawnFormat, Outcome, Source
from app.transport.body import cancel_on_disconnect
from app.transport.context import pin_model, service_of
from app.transport.query import header_priority, requested_priority


@dataclass(frozen=True, eq=False)
class ParsedRequest:
    """What a request of a protocol comes down to: images, options for all of them, perhaps a drawing."""

    images: Sequence[Source]
    params: DetectParams = field(default_factory=DetectParams)
    draw: DrawnFormat | None = None


A = TypeVar("A", bound=ParsedRequest)

Read = Callable[[float], Awaitable[A]]
"""Reads a request's body within so many seconds."""


async def run_detection(
    request: Request, read: Read[A], name: str | None = None, version: str = ""
) -> tuple[A, list[Outcome]]:
    """What was asked, and the outcomes for its images, in order; raises the first image's error if one fails.

    As in /detect: nothing is read while there is no room, and a client that leaves ends the work.
    """
    service = service_of(request)
    await service.wait_for_capacity(request.state.started, requested_priority(request))
    model = pin_model(request)
    model.check_name(name, version)
    started, priority = request.state.started, header_priority(request)
    asked = await read(service.plan(DetectParams(), started).seconds_left())
    params = asked.params if asked.params.priority is not None else replace(asked.params, priority=priority)
    plan = service.plan(params, started, asked.draw, model)
    return asked, await cancel_on_disconnect(request, service.pipeline.detect_all(asked.images, plan))


class Dialects:
    """In which dialect a request is refused: that of the protocol whose route its path is of."""

    def __init__(self, spoken: Sequence[tuple[APIRouter, Dialect]]) -> None:
        self._spoken = [
            (route, dialect)
            for router, dialect in spoken
            for route in router.routes
            if isinstance(route, Route)
        ]

    def __call__(self, scope: Scope) -> Dialect:
        """The dialect of the route that took the request; before there is one, of that which would."""
        endpoint = scope.get("endpoint")
        for route, dialect in self._spoken:
            if route.endpoint is endpoint if endpoint else route.matches(scope)[0] is Match.FULL:
                return dialect
        return PROBLEMS
