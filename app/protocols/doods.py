"""DOODS's API, also DOODS2's: for Home Assistant's integration `doods` and other clients of PyDOODS.

Its POST /detect is that of app/routes/detect.py, which gives us the JSON bodies with `data` and `detect` or
`regions`.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from app.errors import Dialect, InvalidParameter, ServiceError
from app.schemas.limits import MAX_MODEL_NAME, MAX_NAME, MAX_REGIONS
from app.schemas.options import DetectQuery
from app.serving.model import LoadedModel
from app.serving.request import Outcome
from app.serving.service import DetectionService
from app.transport.bodies.image_request import ImageRequest, OtherProtocol
from app.transport.context import pin_model, service_of
from app.transport.disconnect import cancel_on_disconnect
from app.transport.json_body import explain_first
from app.transport.openapi import EVERYWHERE, protocol
from app.transport.query import one_model
from app.transport.responses import FRACTION_DECIMALS, names, respond, rounded, scores, write_sized
from app.transport.router import Router
from models.detections import convert_boxes

DEFAULT = "default"  # the name of a detector that clients ask for when their user names none
ANY = "*"
PER_CENT_DECIMALS = 4
USAGE = '{"detector_name": "default", "data": "<base64>", "detect": {"*": 50}}'

Fraction = Annotated[float, Field(allow_inf_nan=False)]
PerCent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Corners = list[float]
"""left, top, right, bottom as fractions of the image."""


class Sent(BaseModel):
    """A value of a client; other keys are ignored."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)


class Region(Sent):
    """A part of the image, and the labels that count there by their minimum confidence."""

    id: str | None = Field(default=None, max_length=MAX_NAME)
    top: Fraction = 0.0
    left: Fraction = 0.0
    bottom: Fraction = 1.0
    right: Fraction = 1.0
    detect: Mapping[str, PerCent] = Field(default_factory=dict)
    covers: bool = False

    def holds(self, corners: Corners) -> bool:
        """Whether it covers a box, or without `covers` whether they touch."""
        left, top, right, bottom = corners
        if self.covers:
            return self.top <= top and self.left <= left and self.bottom >= bottom and self.right >= right
        return top <= self.bottom and left <= self.right and bottom >= self.top and right >= self.left


class Detect(Sent):
    """A request without its image. A label that `detect` names is not also matched by `*`."""

    id: str | None = Field(default=None, max_length=MAX_NAME)
    detector_name: str | None = Field(default=None, max_length=MAX_MODEL_NAME)
    detect: Mapping[str, PerCent] | None = None
    regions: Annotated[list[Region], Field(max_length=MAX_REGIONS)] | None = None
    image: str | None = None
    preprocess: list[str] | None = None

    def thresholds(self) -> Iterator[float]:
        """All minimum confidences, in per cent."""
        for rules in (self.detect or {}, *(region.detect for region in self.regions or ())):
            yield from rules.values()


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    return {"error": error.detail}


DIALECT = Dialect(_error, below=("/detectors",))
EXAMPLE = {
    "detectors": [
        {
            "name": "default",
            "type": "rcnn-serve",
            "model": "coco-r50-fpn",
            "labels": ["person", "bicycle"],
            "width": 0,
            "height": 0,
        }
    ]
}

router = Router(
    "DOODS",
    "DOODS's list of detectors, for Home Assistant; POST /detect takes its requests too.",
    dialect=DIALECT,
    operations="doods_",
)


@router.get(
    "/detectors",
    summary="List the detectors (DOODS)",
    responses=protocol(DIALECT, EXAMPLE, "loading", "draining", "failing", *EVERYWHERE),
)
async def list_detectors(request: Request) -> dict[str, Any]:
    """The default model as `default`, and every loaded model by its name and its aliases."""
    service = service_of(request)
    default = service.ready_model()
    loaded = service.models.ready
    named = {DEFAULT: default} | {
        alias: loaded[name] for alias, name in service.models.aliases.items() if name in loaded
    }
    return {"detectors": [_detector(name, model) for name, model in {**named, **loaded}.items()]}


def _detector(name: str, model: LoadedModel) -> dict[str, Any]:
    """`width` and `height` are 0: an image of any size is taken."""
    about = {"name": name, "type": "rcnn-serve", "model": model.name, "labels": list(model.labels.values())}
    return about | {"width": 0, "height": 0}


async def detect(request: Request, sent: ImageRequest, given: DetectQuery) -> Response:
    """The detections that the request's rules keep; options of the query hold, but not their threshold."""
    request.state.dialect = DIALECT
    parsed, service, started = _parse(sent.options), service_of(request), request.state.started
    image = sent.one()
    lowest = min(parsed.thresholds(), default=100.0) / 100
    options = given.model_copy(update={"score_threshold": lowest})
    name = _model_name(parsed.detector_name, service) or one_model(given)
    model = await pin_model(request, name, deadline=service.deadline_of(options, started))
    plan = service.plan(options, started, model=model)
    outcome = await cancel_on_disconnect(request, service.pipeline.detect(image, plan))
    body = await write_sized([outcome], _written, outcome, parsed)
    return respond(body, "application/json", outcome.timings)


ON_DETECT = OtherProtocol("data", frozenset({"detect", "regions"}), detect)


def _parse(values: Mapping[str, object]) -> Detect:
    try:
        parsed = Detect.model_validate(values)
    except ValidationError as error:
        raise InvalidParameter(f"{explain_first(error)}; send {USAGE}") from error
    if parsed.image:
        raise InvalidParameter(
            "image: no drawn image is sent in JSON; leave it out, and for a drawn image send the file itself "
            "to POST /detect?format=jpeg"
        )
    if parsed.preprocess:
        raise InvalidParameter("preprocess: the model takes images as they are; leave it out")
    return parsed


def _model_name(detector: str | None, service: DetectionService) -> str | None:
    """The model of a detector's name; None for the default one, unless a model is called so."""
    is_default = detector == DEFAULT and service.models.find(DEFAULT) is None
    return None if is_default or not detector else detector


def _written(outcome: Outcome, parsed: Detect) -> bytes:
    boxes = rounded(convert_boxes(outcome.detections.boxes, "xyxy", outcome.size), FRACTION_DECIMALS)
    columns = zip(names(outcome), scores(outcome), boxes, strict=True)
    found = [_kept(name, round(score * 100, PER_CENT_DECIMALS), box, parsed) for name, score, box in columns]
    response = {} if parsed.id is None else {"id": parsed.id}
    return to_json(response | {"detections": [one for one in found if one is not None]})


def _kept(label: str, confidence: float, corners: Corners, parsed: Detect) -> dict[str, Any] | None:
    """A detection as the first rule keeps it: that of the whole image, or of a region; None if none does."""
    detection: dict[str, Any] = dict(zip(("left", "top", "right", "bottom"), corners, strict=True))
    detection |= {"label": label, "confidence": confidence}
    if _passes(label, confidence, parsed.detect or {}):
        return detection
    for region in parsed.regions or ():
        if region.holds(corners) and _passes(label, confidence, region.detect):
            return detection if region.id is None else {"region_id": region.id} | detection
    return None


def _passes(label: str, confidence: float, rules: Mapping[str, float]) -> bool:
    threshold = rules.get(label, rules.get(ANY))
    return threshold is not None and confidence >= threshold
