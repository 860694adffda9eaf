"""What the answers of all routes have in common: rounded numbers, Server-Timing, a known length."""

from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import Response

from app.plan import Outcome, Timings

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
