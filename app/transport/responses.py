"""What the answers of all routes have in common: rounded numbers, Server-Timing, a known length."""

import re
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from fastapi import Response
from python_multipart.multipart import parse_options_header

from app.schemas.options import AnswerFormat, DetectOptions
from app.schemas.responses import DetectResponse, ImageSize, TimingsMs
from app.serving.request import Outcome, Timings
from app.telemetry.logs import request_id
from models.detections import convert_boxes

PIXEL_DECIMALS, FRACTION_DECIMALS, SCORE_DECIMALS, TIME_DECIMALS = 3, 7, 6, 3


def respond(body: bytes, media_type: str, timings: Timings) -> Response:
    """An answer with its Server-Timing; its length is known, so Content-Length goes with it."""
    stages = (f"{stage};dur={value}" for stage, value in milliseconds(timings).items())
    return Response(body, media_type=media_type, headers={"Server-Timing": ", ".join(stages)})


def milliseconds(timings: Timings) -> dict[str, float]:
    """The stages' times by their names, rounded."""
    return {stage: round(value, TIME_DECIMALS) for stage, value in vars(timings).items()}


def rounded(values: npt.NDArray[np.float32], decimals: int) -> list[Any]:
    """As lists of floats; in double precision, for a rounded float32 would print all its digits."""
    lists: list[Any] = values.astype(np.float64).round(decimals).tolist()
    return lists


def pixel_boxes(outcome: Outcome) -> list[list[int]]:
    """The boxes (N, 4) as x1, y1, x2, y2 in whole pixels, for protocols without fractions."""
    boxes: list[list[int]] = outcome.detections.boxes.round().astype(np.int64).tolist()
    return boxes


def names(outcome: Outcome) -> list[str]:
    """The class names of the detections, (N)."""
    return [outcome.labels[label] for label in outcome.detections.labels.tolist()]


def scores(outcome: Outcome) -> list[float]:
    """The scores of the detections, (N), rounded."""
    return rounded(outcome.detections.scores, SCORE_DECIMALS)


F = TypeVar("F", bound=str)


_ANSWERS: dict[AnswerFormat, str] = {"json": "application/json", "png": "image/png", "jpeg": "image/jpeg"}


@lru_cache(maxsize=64)  # a client's requests say the same each time
def preferred_format(accept: str | None) -> AnswerFormat:
    """The answer an Accept header likes best; json among equals, and where it likes none."""
    return preferred(accept, _ANSWERS)


def preferred(accept: str | None, answers: dict[F, str]) -> F:
    """Of names with their media types the one an Accept header likes best, or the first."""
    ranges = dict(_weighted(one) for one in (accept or "*/*").split(",")[:64])
    weights = {name: _weight(media_type, ranges) for name, media_type in answers.items()}
    return max(weights, key=weights.__getitem__)


def _weight(media_type: str, ranges: dict[str, float]) -> float:
    """How much a media type is wanted: what the narrowest range that covers it says (RFC 9110 §12.5.1)."""
    for covers in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if covers in ranges:
            return ranges[covers]
    return 0.0


def _weighted(media_range: str) -> tuple[str, float]:
    media_type, options = parse_options_header(media_range)
    weight = options.get(b"q", b"1")
    valid = re.fullmatch(rb"[01](\.\d{0,3})?", weight)
    return media_type.decode("latin-1"), min(1.0, float(weight)) if valid else 0.0


def to_wire(outcome: Outcome, query: DetectOptions) -> DetectResponse:
    """The answer as sent; built unchecked, for what comes from the detector is checked already."""
    found, size = outcome.detections, outcome.size
    boxes = convert_boxes(found.boxes, query.box_format, size if query.normalized else None)
    labels = found.labels.tolist()
    return DetectResponse.model_construct(
        boxes=rounded(boxes, FRACTION_DECIMALS if query.normalized else PIXEL_DECIMALS),
        labels=labels,
        scores=rounded(found.scores, SCORE_DECIMALS),
        names=[outcome.labels[label] for label in labels],
        image=ImageSize(width=size[0], height=size[1]),
        model=outcome.model.name,
        model_version=outcome.model.version,
        box_format=query.box_format,
        timings_ms=TimingsMs.model_validate(milliseconds(outcome.timings)),
        request_id=request_id.get(),
    )
