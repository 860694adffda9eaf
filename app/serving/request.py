"""A request as the service takes it and its result: plain values between routes and service."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.batching.item import NORMAL
from app.errors import InvalidParameter
from app.schemas.options import DetectOptions
from app.serving.model import LoadedModel
from app.settings.settings import Settings
from models.detections import Detections
from models.images.decoder import Pixels
from models.options import Options
from models.tiling.tiles import Tiling

DrawnFormat = Literal["png", "jpeg"]
Source = bytes | Pixels
"""One image of a request: a file, or decoded pixels (height, width, 3)."""


@dataclass(frozen=True)
class Plan:
    """A request's options, resolved against the card of the model that answers it.

    `deadline` and `started` are on the monotonic clock. `size`: px of the short side, None for the card's.
    `upscale`: False for an image that keeps its own size where it is smaller than the card's.
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
        """Seconds until the deadline; 0 when it has passed."""
        return max(0.0, self.deadline - time.monotonic())


@dataclass(frozen=True)
class Timings:
    """Milliseconds; `inference` and `postprocess` are those of the image's batch.

    For an image in tiles, `queue` ends when the first tile starts to run, `inference` ends with the last one,
    and `postprocess` is the merge.
    """

    decode: float
    queue: float
    inference: float
    postprocess: float
    total: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result for one image; `size` is its (width, height), `drawn` an image file if requested.

    `truncated`: a part of its file was missing.
    """

    model: LoadedModel
    size: tuple[int, int]
    detections: Detections
    timings: Timings
    drawn: bytes | None = None
    truncated: bool = False

    @property
    def labels(self) -> Sequence[str]:
        """Class names; the index is the label."""
        return self.model.card.labels


def plan_of(
    options: DetectOptions,
    model: LoadedModel,
    settings: Settings,
    started: float,
    draw: DrawnFormat | None = None,
    upscale: bool = True,
) -> Plan:
    """Resolve the options against the model's card and the settings' limits; raises InvalidParameter."""
    if text := options.contradiction():
        raise InvalidParameter(text)
    limit = settings.timeout_ms
    if options.timeout_ms is not None and options.timeout_ms > limit:
        raise InvalidParameter(f"timeout_ms={options.timeout_ms}: this server allows at most {limit} ms")
    classes = model.class_ids(tuple(options.class_tokens(model.classes.by_name)))
    return Plan(
        model=model,
        options=Options.resolve(dict(options) | {"classes": classes, "roi": options.regions()}, model.card),
        size=options.size,
        deadline=started + (options.timeout_ms or limit) / 1000,
        started=started,
        draw=draw,
        upscale=upscale,
        tiling=options.tiling(),
        priority=NORMAL if options.priority is None else options.priority,
    )
