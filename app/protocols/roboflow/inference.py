"""Roboflow's inference API: boxes as centre and size, as `Detections.from_inference` reads them."""

import base64
import time
import uuid
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from app.errors import Dialect, ServiceError
from app.protocols.base import ParsedRequest, run_detection
from app.schemas.limits import MAX_CLASSES, MAX_IMAGES, MAX_NAME
from app.schemas.options import Count, DetectOptions, Fraction
from app.serving.request import DrawnFormat, Outcome
from app.transport.access import OfferedKeys, check_key_of, key_in_body, shows_key
from app.transport.body import read_within
from app.transport.json_body import decode_base64, read_json
from app.transport.openapi import EVERYWHERE, EXAMPLE_IMAGE, OF_DETECTION, OF_MODEL, json_body, protocol
from app.transport.responses import PIXEL_DECIMALS, names, rounded, scores, write_sized
from app.transport.router import Router
from app.transport.threads import run_sized
from app.transport.url_images import fetch_image
from models.detections import convert_boxes

CONFIDENCE = 0.4
"""Roboflow's own default, which its clients rely on."""

ALSO = ", or as `api_key`"
USAGE = '{"image": {"type": "base64", "value": "<base64>"}}'

Name = Annotated[str, Field(max_length=MAX_NAME)]


class Image(BaseModel):
    """An image in base64, or its URL."""

    type: Literal["base64", "url"]
    value: str = Field(description="The image file in base64, or its http(s) URL if the server allows it.")


class Inference(BaseModel):
    """A request; other keys are for Roboflow's own service and ignored."""

    model_id: Name | None = None
    api_key: Name | None = None
    image: Image | Annotated[list[Image], Field(min_length=1, max_length=MAX_IMAGES)]
    confidence: Fraction | Literal["best", "default"] = CONFIDENCE
    iou_threshold: Fraction | None = None
    max_detections: Count | None = None
    class_agnostic_nms: bool | None = None
    class_filter: list[Name] | None = Field(default=None, max_length=MAX_CLASSES)
    visualize_predictions: bool | None = None


class InferenceOptions(DetectOptions):
    """The options of a request, whose class names are not split at commas."""

    def class_tokens(self, names: Container[str]) -> Iterator[str]:
        """The names and ids as sent."""
        return iter(self.classes)


@dataclass(frozen=True, eq=False)
class ParsedInference(ParsedRequest):
    """A parsed request; `as_list`: whether its images came, and its response goes, in a list."""

    as_list: bool = False


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    return {"message": error.detail}


DIALECT = Dialect(_error, below=("/infer", "/model"))
BODY = json_body(
    Inference,
    "Roboflow",
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

# The key may be in the query or the body: the routes check it themselves.
router = Router(
    "Roboflow",
    "Roboflow's inference server, as `inference_sdk` calls it.",
    dialect=DIALECT,
    access=None,
    operations="roboflow_",
)


@router.post(
    "/infer/object_detection",
    summary="Detect objects (Roboflow)",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, *OF_MODEL, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def infer(
    request: Request, header_keys: OfferedKeys, api_key: Annotated[str | None, Query()] = None
) -> Response:
    """One image, or a list of them answered by a list; pixels of the image, class ids as of /labels."""
    keys = _with(header_keys, api_key)
    read = partial(_read, request, keys)
    parsed, outcomes = await run_detection(request, read, body_first=not shows_key(request, keys))
    body = await write_sized(outcomes, _written, outcomes, parsed.as_list)
    return Response(body, media_type="application/json")


def _with(keys: tuple[str, ...], api_key: str | None) -> tuple[str, ...]:
    return (*keys, api_key) if api_key else keys


async def _read(request: Request, keys: tuple[str, ...], seconds: float) -> ParsedInference:
    deadline = time.monotonic() + seconds
    with key_in_body(request, keys, ALSO):
        body = await read_within(seconds, request.body())
        inference = await read_json(body, Inference, USAGE)
    check_key_of(request, _with(keys, inference.api_key), ALSO)
    as_list = isinstance(inference.image, list)
    images = inference.image if isinstance(inference.image, list) else [inference.image]
    files = [await _content(request, image, deadline) for image in images]
    draw: DrawnFormat | None = "jpeg" if inference.visualize_predictions else None
    return ParsedInference(files, _options(inference), draw, model=inference.model_id, as_list=as_list)


async def _content(request: Request, image: Image, deadline: float) -> bytes:
    if image.type == "base64":
        return await run_sized(len(image.value), decode_base64, image.value, "image")
    return await fetch_image(request, image.value, deadline)


def _options(inference: Inference) -> DetectOptions:
    return InferenceOptions(
        score_threshold=None if isinstance(inference.confidence, str) else inference.confidence,
        nms_threshold=inference.iou_threshold,
        max_detections=inference.max_detections,
        classes=inference.class_filter or [],
        class_agnostic=bool(inference.class_agnostic_nms),
    )


def _written(outcomes: list[Outcome], as_list: bool) -> bytes:
    results = [describe(outcome) for outcome in outcomes]
    return to_json(results if as_list else results[0])


def describe(outcome: Outcome) -> dict[str, Any]:
    """An outcome as Roboflow describes it."""
    detections = outcome.detections
    boxes = rounded(convert_boxes(detections.boxes, "cxcywh", None), PIXEL_DECIMALS)
    columns = zip(boxes, scores(outcome), names(outcome), detections.labels.tolist(), strict=True)
    drawn = {"visualization": base64.b64encode(outcome.drawn).decode()} if outcome.drawn else {}
    return {
        "inference_id": str(uuid.uuid4()),
        "time": round(outcome.timings.total / 1000, 6),
        "image": {"width": outcome.size[0], "height": outcome.size[1]},
        "predictions": [
            dict(zip(("x", "y", "width", "height"), box, strict=True))
            | {"confidence": score, "class": name, "class_id": label, "detection_id": str(uuid.uuid4())}
            for box, score, name, label in columns
        ],
    } | drawn
