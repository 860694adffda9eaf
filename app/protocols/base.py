"""What the APIs of other servers have in common: a request in their form is detected as in POST /detect."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request

from app.schemas.options import DetectOptions
from app.serving.model import LoadedModel
from app.serving.request import DrawnFormat, Outcome, Source
from app.transport.bodies.mistakes import check_image
from app.transport.context import pin_model, service_of
from app.transport.disconnect import cancel_on_disconnect
from app.transport.query import PRIORITY_HEADER, parse_priority, with_priority


@dataclass(frozen=True, eq=False)
class ParsedRequest:
    """A request of a protocol: images, options for all of them, and what the options do not say.

    `model`: the name in the body, None where the path or nothing names it. `dropped`: names of classes
    (casefolded) that the response leaves out.
    """

    images: Sequence[Source]
    options: DetectOptions = field(default_factory=DetectOptions)
    draw: DrawnFormat | None = None
    upscale: bool = True  # False: an image that is smaller than the card's size keeps its own
    model: str | None = None
    dropped: frozenset[str] = frozenset()


P = TypeVar("P", bound=ParsedRequest)

Read = Callable[[float], Awaitable[P]]
"""Reads a request's body within so many seconds."""


async def run_detection(
    request: Request, read: Read[P], name: str | None = None, version: str = "", *, body_first: bool = False
) -> tuple[P, list[Outcome]]:
    """The parsed request and the outcomes of its images, in order; raises the error of the first that fails.

    As in POST /detect: the body is read after there is capacity, and a disconnected client cancels the work.
    `body_first`: the request has shown no key, so `read` must find it in the body, which counts in the
    account of strangers. Before that, the request must not wait for capacity among those of users.
    """
    service, started = service_of(request), request.state.started
    header = request.headers.get(PRIORITY_HEADER)
    priority = None if header is None else parse_priority(header)
    service.ready_model()
    deadline = service.deadline_of(DetectOptions(), started)
    parsed = await read(_seconds_until(deadline)) if body_first else None
    model = await pin_model(request, name, version, deadline)
    await service.wait_for_capacity(started, priority, model)
    parsed = parsed or await read(_seconds_until(deadline))
    if parsed.model is not None:
        del model
        model = await pin_model(request, parsed.model, version, deadline)
    for image in parsed.images:
        if isinstance(image, bytes):
            check_image(image)
    options = _without(parsed.dropped, with_priority(parsed.options, header), model)
    plan = service.plan(options, started, parsed.draw, model, parsed.upscale)
    return parsed, await cancel_on_disconnect(request, service.pipeline.detect_all(parsed.images, plan))


def _seconds_until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _without(dropped: frozenset[str], options: DetectOptions, model: LoadedModel) -> DetectOptions:
    """The options with the ids of the classes that are not dropped; unchanged if none or all are dropped."""
    kept = [str(index) for index, name in model.labels.items() if name.casefold() not in dropped]
    if not kept or len(kept) == len(model.labels):
        return options
    # Unchecked: a card may have more classes than a request may name.
    return options.model_copy(update={"classes": kept})
