"""What a request asks for and what it gets: the plain values between routes and service."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from app.batching.item import NORMAL
from app.errors import InvalidParameter
from app.schemas.options import DetectOptions
from app.serving.model import LoadedModel
from app.settings.settings import Settings
from models.detections import Detections
from models.images.decoder import Pixels
from models.options import Options
from models.tiling.tiles import OVERLAP, Tiling

DrawnFormat = Literal["png", "jpeg"]
Source = bytes | Pixels
"""One image as a request has it: a file, or pixels (height, width, 3) that are decoded already."""

MAX_IMAGES = 32
"""In one request: more gain nothing, for the service forms its own batches across requests."""


@dataclass(frozen=True)
class DetectParams:
    """What a request asks for; None stands for the card's default, and for the service's longest timeout."""

    score_threshold: float | None = None
    nms_threshold: float | None = None
    max_detections: int | None = None
    classes: tuple[str, ...] = ()
    class_agnostic: bool = False
    size: int | None = None
    timeout_ms: int | None = None
    upscale: bool = True  # False: an image that is smaller than the card's size keeps its own
    tile: int | Literal["auto"] | None = None  # px of the image; None: the image is not cut into tiles
    tile_overlap: float = OVERLAP
    priority: int | None = None  # 0 to 2, the highest; None: 1


def params_of(query: DetectOptions) -> DetectParams:
    """What the options of a request ask of the service."""
    return DetectParams(
        score_threshold=query.score_threshold,
        nms_threshold=query.nms_threshold,
        max_detections=query.max_detections,
        classes=tuple(query.class_tokens()),
        class_agnostic=query.class_agnostic,
        size=query.size,
        timeout_ms=query.timeout_ms,
        tile=query.tile,
        tile_overlap=query.tile_overlap,
        priority=query.priority,
    )


@dataclass(frozen=True)
class Plan:
    """What will be done for a request: every option resolved, by the model that will answer it.

    `deadline` is on the monotonic clock.
    """

    model: LoadedModel
    options: Options
    size: int | None
    deadline: float
    started: float
    draw: DrawnFormat | None = None
    upscale: bool = True
    tiling: Tiling | None = None
    priority: int = NORMAL

    def seconds_left(self) -> float:
        """Until the deadline; 0 when it has passed."""
        return max(0.0, self.deadline - time.monotonic())


@dataclass(frozen=True)
class Timings:
    """Milliseconds; `inference` and `postprocess` are those of the image's batch.

    Of an image in tiles, `queue` ends where the first one begins to run and `inference` with the last one;
    `postprocess` is their merge.
    """

    decode: float
    queue: float
    inference: float
    postprocess: float
    total: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """The answer for one image; `size` is its (width, height), `drawn` an image file if asked for."""

    model: LoadedModel
    size: tuple[int, int]
    detections: Detections
    timings: Timings
    drawn: bytes | None = None

    @property
    def labels(self) -> Sequence[str]:
        """Class names; the index is the label."""
        return self.model.card.labels


R = TypeVar("R")


def plan_of(
    params: DetectParams,
    model: LoadedModel,
    settings: Settings,
    started: float,
    draw: DrawnFormat | None,
) -> Plan:
    """The options over the card's defaults, within the settings' bounds; raises InvalidParameter."""
    card = model.card
    longest = settings.timeout_ms
    if params.timeout_ms is not None and params.timeout_ms > longest:
        raise InvalidParameter(f"timeout_ms={params.timeout_ms}: this server waits at most {longest} ms")
    options = Options(
        score_threshold=_given(params.score_threshold, card.score_threshold),
        nms_threshold=_given(params.nms_threshold, card.nms_threshold),
        max_detections=_given(params.max_detections, card.max_detections),
        classes=model.class_ids(params.classes),
        class_agnostic=params.class_agnostic,
    )
    deadline = started + _given(params.timeout_ms, longest) / 1000
    side = None if params.tile == "auto" else params.tile
    tiling = Tiling(side, params.tile_overlap) if params.tile else None
    priority = _given(params.priority, NORMAL)
    return Plan(model, options, params.size, deadline, started, draw, params.upscale, tiling, priority)


def _given(value: R | None, default: R) -> R:
    return default if value is None else value
