"""DeepStack's detection, also CodeProject.AI's: Blue Iris, Frigate, Home Assistant and similar clients."""

from functools import partial
from typing import Any

from fastapi import Request, Response
from pydantic import Field
from pydantic_core import to_json

from app.errors import Dialect, ServiceError
from app.protocols.base import ParsedRequest, run_detection
from app.schemas.options import DetectOptions, Fraction, OptionSet
from app.serving.request import Outcome
from app.settings.settings import Settings
from app.transport.access import OfferedKeys, check_key_of, key_in_body, shows_key
from app.transport.body import MULTIPART, Form, read_form
from app.transport.context import service_of
from app.transport.openapi import EVERYWHERE, FILE, OF_DETECTION, OF_MODEL, protocol
from app.transport.query import read_options
from app.transport.responses import names, pixel_boxes, respond, scores, write_sized
from app.transport.router import Router

IMAGE = ("image",)
ALSO = ", or as the form's field `api_key`"
FORM_SECONDS = 5.0  # for the form of a request that has no image to send


class FormOptions(OptionSet):
    """The form's fields that are options; DeepStack's clients rely on its own default."""

    min_confidence: Fraction = Field(default=0.4, description="Minimum confidence: a number from 0 to 1.")


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    return {
        "success": False,
        "error": error.detail,
        "predictions": [],
        "message": error.title,
        "count": 0,
        "code": error.status,
        "requestId": request_id,
    }


DIALECT = Dialect(_error, below=("/v1",))
BODY = {
    "required": True,
    "content": {
        MULTIPART: {
            "schema": {
                "title": "DeepStackForm",
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": FILE,
                    **FormOptions.model_json_schema()["properties"],
                    "api_key": {"type": "string"},
                },
            }
        }
    },
}
EXAMPLE = {
    "success": True,
    "predictions": [
        {"confidence": 0.98, "label": "person", "x_min": 12, "y_min": 30, "x_max": 200, "y_max": 311}
    ],
    "message": "Found person",
    "count": 1,
    "processMs": 45,
    "inferenceMs": 41,
    "duration": 0.0452,
    "code": 200,
}
LIST_EXAMPLE = {"success": True, "models": ["coco-r50-fpn"], "code": 200}

TAG = "DeepStack, CodeProject.AI"
# The key may be in the form: the routes check it themselves.
router = Router(
    TAG,
    "DeepStack's object detection, for Blue Iris, Frigate, Home Assistant and similar clients.",
    dialect=DIALECT,
    access=None,
    operations="deepstack_",
)


@router.post(
    "/v1/vision/detection",
    summary="Detect objects (DeepStack)",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def detect(request: Request, keys: OfferedKeys) -> Response:
    """The file `image` of a form, or its first file; objects by confidence, descending, in whole pixels."""
    return await _detect(request, keys)


@router.get("/v1/vision/custom/list", include_in_schema=False)
@router.post(
    "/v1/vision/custom/list",
    summary="List the models (CodeProject.AI)",
    responses=protocol(DIALECT, LIST_EXAMPLE, "unsupported_media_type", "invalid_parameter", *EVERYWHERE),
)
async def list_models(request: Request, keys: OfferedKeys) -> dict[str, Any]:
    """The names of the loaded models; empty until they are loaded."""
    service = service_of(request)
    if request.method != "POST":
        check_key_of(request, keys)
    elif not shows_key(request, keys):
        await _read_form(request, keys, FORM_SECONDS)
    return {"success": True, "models": list(service.models.ready), "code": 200}


@router.post(
    "/v1/vision/custom/{name}",
    summary="Detect objects with a named model (DeepStack)",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, *OF_MODEL, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def detect_with_model(request: Request, keys: OfferedKeys, name: str) -> Response:
    """As /v1/vision/detection, for clients that name the model; 404 for one that is not loaded."""
    return await _detect(request, keys, name)


async def _detect(request: Request, keys: tuple[str, ...], name: str | None = None) -> Response:
    service = service_of(request)
    read = partial(_read, request, keys)
    _, [outcome] = await run_detection(request, read, name, body_first=not shows_key(request, keys))
    body = await write_sized([outcome], lambda: to_json(_response(outcome, service.settings)))
    return respond(body, "application/json", outcome.timings)


async def _read(request: Request, keys: tuple[str, ...], seconds: float) -> ParsedRequest:
    service = service_of(request)
    form = await _read_form(request, keys, seconds)
    text = form.fields.get("min_confidence", "").strip()
    chosen = read_options({"min_confidence": text} if text else {}, FormOptions)
    options = DetectOptions(
        score_threshold=chosen.min_confidence,
        max_detections=service.settings.deepstack_max_predictions or None,
    )
    image, settings = form.image(*IMAGE), service.settings
    return ParsedRequest([image], options, upscale=settings.deepstack_upscale, dropped=_dropped(settings))


async def _read_form(request: Request, keys: tuple[str, ...], seconds: float) -> Form:
    """The form, once it or the headers have shown a key."""
    with key_in_body(request, keys, ALSO):
        form = await read_form(request, seconds, IMAGE)
    key = form.fields.get("api_key")
    check_key_of(request, (*keys, key) if key else keys, ALSO)
    return form


def _dropped(settings: Settings) -> frozenset[str]:
    return frozenset(name.casefold() for name in settings.deepstack_drop_labels)


def _response(outcome: Outcome, settings: Settings) -> dict[str, Any]:
    renamed = {old.casefold(): new for old, new in settings.deepstack_label_map}
    dropped = _dropped(settings)
    predictions = [
        {"confidence": score, "label": renamed.get(name.casefold(), name)}
        | dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True))
        for score, name, box in zip(scores(outcome), names(outcome), pixel_boxes(outcome), strict=True)
        if name.casefold() not in dropped
    ]
    timings = outcome.timings
    return {
        "success": True,
        "predictions": predictions,
        "message": _message([str(prediction["label"]) for prediction in predictions]),
        "count": len(predictions),
        "processMs": round(timings.total),
        "inferenceMs": round(timings.inference),
        "duration": round(timings.total / 1000, 6),
        "code": 200,
    }


def _message(labels: list[str]) -> str:
    if not labels:
        return "No objects found"
    return f"Found {', '.join(labels[:3])}{', …' if len(labels) > 3 else ''}"
