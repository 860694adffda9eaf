"""From what a request asks to what will be done: its options resolved, before any image is touched."""

from typing import TypeVar

from app.caller import NORMAL
from app.errors import InvalidParameter
from app.model import LoadedModel
from app.plan import DetectParams, DrawnFormat, Plan
from app.settings import Settings
from models.options import Options
from models.tiles import Tiling

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
    tiling = Tiling(side, params.tile_overlap, settings.max_tiles) if params.tile else None
    priority = _given(params.priority, NORMAL)
    return Plan(model, options, params.size, deadline, started, draw, params.upscale, tiling, priority)


def _given(value: R | None, default: R) -> R:
    return default if value is None else value
