"""Results as responses: rounded numbers, Server-Timing, and the format that the Accept header prefers."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from fastapi import Response
from python_multipart.multipart import parse_options_header

from app.schemas.limits import MAX_ACCEPT
from app.schemas.options import AnswerFormat, DetectOptions, ModelOptions
from app.schemas.responses import Box, DetectedObject, DetectResponse, ImageSize, ObjectsResponse, TimingsMs
from app.serving.request import Outcome, Timings
from app.telemetry.logs import request_id
from app.transport.threads import run_sized
from models.detections import convert_boxes

OBJECT_BYTES = 256
"""Of a detection in a response, about: hundreds of them are written on a thread."""

PIXEL_DECIMALS, FRACTION_DECIMALS, SCORE_DECIMALS, TIME_DECIMALS = 3, 7, 6, 3


def respond(body: bytes, media_type: str, timings: Timings) -> Response:
    """A response with Server-Timing; its length is known, so it has Content-Length."""
    stages = (f"{stage};dur={value}" for stage, value in milliseconds(timings).items())
    return Response(body, media_type=media_type, headers={"Server-Timing": ", ".join(stages)})


P = ParamSpec("P")


async def write_sized(
    outcomes: Sequence[Outcome], write: Callable[P, bytes], *args: P.args, **kwargs: P.kwargs
) -> bytes:
    """What `write` makes of these outcomes; on a thread where they have many detections."""
    size = OBJECT_BYTES * sum(len(outcome.detections) for outcome in outcomes)
    return await run_sized(size, write, *args, **kwargs)


def milliseconds(timings: Timings) -> dict[str, float]:
    """The stages' times by name, rounded."""
    return {stage: round(value, TIME_DECIMALS) for stage, value in vars(timings).items()}


def rounded(values: npt.NDArray[np.float32], decimals: int) -> list[Any]:
    """As lists of floats; rounded in double precision, as a rounded float32 would print all its digits."""
    lists: list[Any] = values.astype(np.float64).round(decimals).tolist()
    return lists


def pixel_boxes(outcome: Outcome) -> list[list[int]]:
    """The boxes (N, 4) as x1, y1, x2, y2 in whole pixels, for protocols without fractions of pixels."""
    boxes: list[list[int]] = outcome.detections.boxes.round().astype(np.int64).tolist()
    return boxes


def names(outcome: Outcome) -> list[str]:
    """The class names of the detections, (N)."""
    return [outcome.labels[label] for label in outcome.detections.labels.tolist()]


def scores(outcome: Outcome) -> list[float]:
    """The scores of the detections, (N), rounded."""
    return rounded(outcome.detections.scores, SCORE_DECIMALS)


F = TypeVar("F", bound=str)

_FORMATS: dict[AnswerFormat, str] = {"json": "application/json", "png": "image/png", "jpeg": "image/jpeg"}


@lru_cache(maxsize=64)  # the requests of a client have the same header
def preferred_format(accept: str | None) -> AnswerFormat:
    """The response format that an Accept header prefers; json if it prefers none."""
    return preferred(accept, _FORMATS)


def preferred(accept: str | None, formats: dict[F, str]) -> F:
    """Of formats with their media types, the one that an Accept header prefers, else the first."""
    ranges = dict(_weighted(media_range) for media_range in (accept or "*/*")[:MAX_ACCEPT].split(",")[:64])
    weights = {name: _weight(media_type, ranges) for name, media_type in formats.items()}
    return max(weights, key=weights.__getitem__)


def _weight(media_type: str, ranges: dict[str, float]) -> float:
    """The weight of a media type: that of the narrowest range that covers it (RFC 9110 §12.5.1)."""
    for covers in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if covers in ranges:
            return ranges[covers]
    return 0.0


def _weighted(media_range: str) -> tuple[str, float]:
    media_type, options = parse_options_header(media_range)
    weight = options.get(b"q", b"1")
    valid = re.fullmatch(rb"[01](\.\d{0,3})?", weight)
    return media_type.decode("latin-1"), min(1.0, float(weight)) if valid else 0.0


def answer(outcome: Outcome, options: ModelOptions) -> DetectResponse | ObjectsResponse:
    """The response for one image as its options want it."""
    return _to_objects(outcome, options) if options.as_objects else to_wire(outcome, options)


def to_wire(outcome: Outcome, options: DetectOptions) -> DetectResponse:
    """The response for one image; not validated, because a detector's values are valid already."""
    return DetectResponse.model_construct(
        boxes=_boxes(outcome, options),
        labels=outcome.detections.labels.tolist(),
        scores=scores(outcome),
        names=names(outcome),
        **_about(outcome, options),
    )


def _to_objects(outcome: Outcome, options: DetectOptions) -> ObjectsResponse:
    """As `to_wire`, one object a detection."""
    labels, boxes = outcome.detections.labels.tolist(), _boxes(outcome, options)
    columns = zip(names(outcome), labels, scores(outcome), boxes, strict=True)
    objects = [
        DetectedObject.model_construct(
            name=name, label=label, score=score, box=Box.model_construct(x1=x1, y1=y1, x2=x2, y2=y2)
        )
        for name, label, score, (x1, y1, x2, y2) in columns
    ]
    return ObjectsResponse.model_construct(objects=objects, **_about(outcome, options))


def _boxes(outcome: Outcome, options: DetectOptions) -> list[list[float]]:
    size = outcome.size if options.normalized else None
    boxes = convert_boxes(outcome.detections.boxes, options.box_format, size)
    return rounded(boxes, FRACTION_DECIMALS if options.normalized else PIXEL_DECIMALS)


def _about(outcome: Outcome, options: DetectOptions) -> dict[str, Any]:
    width, height = outcome.size
    return {
        "image": ImageSize(width=width, height=height, truncated=outcome.truncated),
        "model": outcome.model.name,
        "model_version": outcome.model.version,
        "box_format": options.box_format,
        "timings_ms": TimingsMs.model_validate(milliseconds(outcome.timings)),
        "request_id": request_id.get(),
        "warning": outcome.model.hint or "",
    }


def fields_of(response: DetectResponse | ObjectsResponse) -> dict[str, Any]:
    """The fields of a response, for a message that has others too."""
    return {name: value for name, value in response if name != "warning" or value}
