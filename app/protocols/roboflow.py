"""Roboflow's inference API: boxes by their centre, as `supervision.Detections.from_inference` reads them."""

import asyncio
import base64
import uuid
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from app.errors import DeadlineExceeded, Dialect, InvalidParameter, ServiceError
from app.protocols.base import ParsedRequest, run_detection
from app.schemas.options import Count, Fraction
from app.serving.request import MAX_IMAGES, DetectParams, Outcome
from app.transport.access import check_key, offered_keys
from app.transport.body import cancel_on_disconnect, decode_base64, media_type_of, parse_json, read_within
from app.transport.context import pinned_model, service_of
from app.transport.openapi import EVERYWHERE, EXAMPLE_IMAGE, OF_DETECTION, json_body, protocol
from app.transport.responses import PIXEL_DECIMALS, names, rounded, scores
from app.transport.url_images import Fetcher
from models.detections import convert_boxes

CONFIDENCE = 0.4
"""Roboflow's own; its clients leave `confidence` out and count on it."""

ALSO = ", or as `api_key`"
SHOWN = '{"image": {"type": "base64", "value": "<base64>"}}'


class Image(BaseModel):
    """An image by its content, or by its address."""

    type: Literal["base64", "url"]
    value: str = Field(
        description="The image file in base64, or its http(s) address if the server allows it."
    )


class Inference(BaseModel):
    """A request; what else a client sends beside these is about Roboflow's own service."""

    model_id: str | None = None
    api_key: str | None = None
    image: Image | Annotated[list[Image], Field(min_length=1, max_length=MAX_IMAGES)]
    confidence: Fraction | Literal["best", "default"] = CONFIDENCE
    iou_threshold: Fraction | None = None
    max_detections: Count | None = None
    class_agnostic_nms: bool | None = None
    class_filter: list[str] | None = Field(default=None, max_length=1000)
    visualize_predictions: bool | None = None


@dataclass(frozen=True, eq=False)
class _Asked(ParsedRequest):
    several: bool = False


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    return {"message": error.detail}


DIALECT = Dialect(_error)
BODY = json_body(
    Inference,
    {
        "model_id": "coco-r50-fpn",
        "image": {"type": "base64", "value": EXAMPLE_IMAGE},
        "confidence": 0.5,
    },
)
EXAMPLE = {
    "inference_id": "6f1c0c3f-4f5e-4a0e-9c6a-2b1d8e7f0a1b",
    "time": 0.0452,
    "image": {"width": 640, "height": 480},
    "predictions": [
        {
            "x": 106.375,
            "y": 170.375,
            "width": 187.75,
            "height": 280.75,
            "confidence": 0.98,
            "class": "person",
            "class_id": 1,
            "detection_id": "0a5f0f1e-3c1b-4b66-8f5b-4f0f5d6c7b8a",
        }
    ],
}
REGISTRY = {"models": [{"model_id": "coco-r50-fpn", "task_type": "object-detection"}]}

router = APIRouter(tags=["Roboflow"])


@router.post(
    "/infer/object_detection",
    summary="Detect objects, as Roboflow's inference server does",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, "not_found", *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def infer(request: Request, api_key: Annotated[str | None, Query()] = None) -> Response:
    """One image, or a list of them answered by a list; pixels of the image, class ids as of /labels."""
    keys = [*offered_keys(request), *([api_key] if api_key else [])]
    asked, outcomes = await run_detection(request, partial(_read, request, keys))
    answers = [_answer(outcome) for outcome in outcomes]
    return Response(to_json(answers if asked.several else answers[0]), media_type="application/json")


@router.get("/model/registry", summary="The models", responses=protocol(DIALECT, REGISTRY, *EVERYWHERE))
async def registry(request: Request, api_key: Annotated[str | None, Query()] = None) -> dict[str, Any]:
    """The name of the loaded model, or none yet: what `inference_sdk` asks before it sends an image."""
    service = service_of(request)
    check_key(service, [*offered_keys(request), *([api_key] if api_key else [])], ALSO)
    serving = service.models.serving
    known = [{"model_id": serving.name, "task_type": "object-detection"}] if serving else []
    return {"models": known}


async def _read(request: Request, keys: list[str], seconds: float) -> _Asked:
    media_type_of(request)  # that the body is not compressed
    until = asyncio.get_running_loop().time() + seconds
    given = await run_in_threadpool(parse_json, await read_within(seconds, request.body()), Inference, SHOWN)
    check_key(service_of(request), [*keys, *([given.api_key] if given.api_key else [])], ALSO)
    pinned_model(request).check_name(given.model_id)
    several = isinstance(given.image, list)
    images = given.image if isinstance(given.image, list) else [given.image]
    contents = [await _content(request, one, until) for one in images]
    return _Asked(contents, _params(given), "jpeg" if given.visualize_predictions else None, several)


async def _content(request: Request, image: Image, until: float) -> bytes:
    if image.type == "base64":
        return await run_in_threadpool(decode_base64, image.value, "image")
    if not service_of(request).settings.roboflow_urls:
        raise InvalidParameter(
            "image: this server does not fetch addresses; send the image in base64, or set RCNN_ROBOFLOW_URLS"
        )
    fetcher = cast(Fetcher, request.app.state.fetcher)
    try:
        async with asyncio.timeout_at(until):
            return await cancel_on_disconnect(request, fetcher.fetch(image.value))
    except TimeoutError as error:
        raise DeadlineExceeded(
            "the image did not come from its address within the request's time; send it in base64"
        ) from error


def _params(given: Inference) -> DetectParams:
    return DetectParams(
        score_threshold=None if isinstance(given.confidence, str) else given.confidence,
        nms_threshold=given.iou_threshold,
        max_detections=given.max_detections,
        classes=tuple(given.class_filter or ()),
        class_agnostic=bool(given.class_agnostic_nms),
    )


def _answer(outcome: Outcome) -> dict[str, Any]:
    found = outcome.detections
    boxes = rounded(convert_boxes(found.boxes, "cxcywh", None), PIXEL_DECIMALS)
    objects = zip(boxes, scores(outcome), names(outcome), found.labels.tolist(), strict=True)
    drawn = {"visualization": base64.b64encode(outcome.drawn).decode()} if outcome.drawn else {}
    return {
        "inference_id": str(uuid.uuid4()),
        "time": round(outcome.timings.total / 1000, 6),
        "image": {"width": outcome.size[0], "height": outcome.size[1]},
        "predictions": [
            dict(zip(("x", "y", "width", "height"), box, strict=True))
            | {"confidence": score, "class": name, "class_id": label, "detection_id": str(uuid.uuid4())}
            for box, score, name, label in objects
        ],
    } | drawn
