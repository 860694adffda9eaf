"""DeepStack's API, as CodeProject.AI kept it: for Blue Iris, Frigate, Home Assistant and agents like them."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from app import version
from app.errors import Dialect, InvalidParameter, ServiceError
from app.protocols.base import ParsedRequest, run_detection
from app.schemas.options import Fraction
from app.serving.model import LoadedModel
from app.serving.request import DetectParams, Outcome
from app.settings.settings import Settings
from app.transport.access import check_key, offered_keys
from app.transport.body import MULTIPART, media_type_of, read_form
from app.transport.context import pinned_model, service_of
from app.transport.openapi import EVERYWHERE, FILE, OF_DETECTION, protocol
from app.transport.responses import names, pixel_boxes, respond, scores

MIN_CONFIDENCE = 0.4
"""DeepStack's own; its clients leave `min_confidence` out and count on it."""

IMAGE = ("image",)
ALSO = ", or as the form's field `api_key`"
FORM_SECONDS = 5.0  # for the form of a request that has no image to send


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


DIALECT = Dialect(_error)
BODY = {
    "required": True,
    "content": {
        MULTIPART: {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": FILE,
                    "min_confidence": {
                        "type": "number",
                        "minimum": 0,
                        "maximum": 1,
                        "default": MIN_CONFIDENCE,
                    },
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
PING_EXAMPLE = {"success": True, "message": "0.1.0", "code": 200}
UPDATE_EXAMPLE = {"success": True, "message": "…", "version": None, "updateAvailable": False, "code": 200}

router = APIRouter(tags=["DeepStack, CodeProject.AI"])
_fraction: TypeAdapter[float] = TypeAdapter(Fraction)


@router.post(
    "/v1/vision/detection",
    summary="Detect objects, as DeepStack does",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def detection(request: Request) -> Response:
    """The file `image` of a form, or its first file; objects by confidence, descending, in whole pixels."""
    return await _detect(request, None)


@router.post(
    "/v1/vision/custom/list",
    summary="The models, as CodeProject.AI lists them",
    responses=protocol(DIALECT, LIST_EXAMPLE, "unsupported_media_type", "invalid_parameter", *EVERYWHERE),
)
async def custom_list(request: Request) -> dict[str, Any]:
    """The name of the loaded model, or none yet."""
    service = service_of(request)
    form_key = []
    if service.settings.api_keys and media_type_of(request)[0] == MULTIPART:
        form_key = _keys((await read_form(request, FORM_SECONDS, IMAGE)).fields)
    check_key(service, [*offered_keys(request), *form_key], ALSO)
    serving = service.models.serving
    return {"success": True, "models": [serving.name] if serving else [], "code": 200}


@router.post(
    "/v1/vision/custom/{name}",
    summary="Detect objects with a model by its name, as DeepStack does",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, "not_found", *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def custom(request: Request, name: str) -> Response:
    """As /v1/vision/detection, for clients that name the model; 404 for any but the loaded one."""
    return await _detect(request, name)


@router.get(
    "/v1/status/ping", summary="Whether the server answers", responses=protocol(DIALECT, PING_EXAMPLE)
)
async def ping() -> dict[str, Any]:
    """Always a success, as of CodeProject.AI; /health/ready tells whether the model is loaded."""
    return {"success": True, "message": version(), "code": 200}


@router.get(
    "/v1/status/updateavailable",
    summary="Never an update",
    responses=protocol(DIALECT, UPDATE_EXAMPLE),
)
async def update_available() -> dict[str, Any]:
    """This server looks for no updates; clients that ask are told that there is none."""
    said = f"rcnn-serve {version()}; it does not look for updates"
    return {"success": True, "message": said, "version": None, "updateAvailable": False, "code": 200}


async def _detect(request: Request, name: str | None) -> Response:
    service = service_of(request)
    _, [outcome] = await run_detection(request, partial(_read, request), name)
    return respond(to_json(_answer(outcome, service.settings)), "application/json", outcome.timings)


async def _read(request: Request, seconds: float) -> ParsedRequest:
    service = service_of(request)
    form = await read_form(request, seconds, IMAGE)
    check_key(service, [*offered_keys(request), *_keys(form.fields)], ALSO)
    params = DetectParams(
        score_threshold=_min_confidence(form.fields),
        max_detections=service.settings.deepstack_max_predictions or None,
        classes=_kept_classes(pinned_model(request), service.settings),
        upscale=service.settings.deepstack_upscale,
    )
    return ParsedRequest([form.image(*IMAGE)], params)


def _keys(fields: dict[str, str]) -> list[str]:
    return [key for key in (fields.get("api_key"),) if key]


def _min_confidence(fields: dict[str, str]) -> float:
    given = fields.get("min_confidence", "").strip()
    try:
        return _fraction.validate_python(given) if given else MIN_CONFIDENCE
    except ValidationError as error:
        raise InvalidParameter(f"min_confidence={given[:60]!r}: it must be a number from 0 to 1") from error


def _kept_classes(model: LoadedModel, settings: Settings) -> tuple[str, ...]:
    """The ids of the classes that are not dropped; none, for all, if nothing or everything is dropped."""
    dropped = _dropped(settings)
    kept = [str(index) for index, name in model.labels.items() if name.casefold() not in dropped]
    return tuple(kept) if len(kept) < len(model.labels) else ()


def _dropped(settings: Settings) -> frozenset[str]:
    return frozenset(name.casefold() for name in settings.deepstack_drop_labels)


def _answer(outcome: Outcome, settings: Settings) -> dict[str, Any]:
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
        "message": _found([str(one["label"]) for one in predictions]),
        "count": len(predictions),
        "processMs": round(timings.total),
        "inferenceMs": round(timings.inference),
        "duration": round(timings.total / 1000, 6),
        "code": 200,
    }


def _found(labels: list[str]) -> str:
    return (
        f"Found {', '.join(labels[:3])}{', …' if len(labels) > 3 else ''}" if labels else "No objects found"
    )
