"""KServe's V1 protocol, which is also TensorFlow Serving's: base64 instances in, predictions out."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor

from app.errors import Dialect, InvalidParameter, ServiceError
from app.protocols.base import ParsedRequest, run_detection
from app.schemas.options import DetectOptions
from app.serving.request import MAX_IMAGES, params_of
from app.transport import openapi_examples
from app.transport.body import decode_base64, media_type_of, parse_json, read_within
from app.transport.context import service_of
from app.transport.openapi import EVERYWHERE, EXAMPLE_IMAGE, OF_DETECTION, json_body, protocol
from app.transport.responses import to_wire

KEYS = ("b64", "image", "image_bytes", "data")
SHOWN = '{"instances": [{"b64": "<base64>"}]}'

Instance = str | dict[str, Any]


class Predict(BaseModel):
    """A request: 1 to 32 images, one set of options."""

    instances: list[Instance] = Field(
        min_length=1,
        max_length=MAX_IMAGES,
        description='Images in base64: a text, {"b64": text}, or either of them under the key image, '
        "image_bytes or data.",
    )
    parameters: DetectOptions = Field(
        default=DetectOptions(), description="The options of POST /detect, for all instances."
    )


@dataclass(frozen=True, eq=False)
class _Asked(ParsedRequest):
    options: DetectOptions = field(default_factory=DetectOptions)


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    return {"error": error.detail}


DIALECT = Dialect(_error)
BODY = json_body(Predict, {"instances": [{"b64": EXAMPLE_IMAGE}], "parameters": {"score_threshold": 0.5}})
EXAMPLE = {"predictions": [openapi_examples.DETECTION]}

router = APIRouter(tags=["KServe V1"])


class _Name(StringConvertor):
    """A model's name in a path. With a colon and a verb it is another resource, of other methods."""

    regex = "[^/:]+"


register_url_convertor("model", _Name())


@router.post(
    "/v1/models/{name}:predict",
    summary="Detect objects, as a KServe predictor does",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, "not_found", *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def predict(request: Request, name: str) -> Response:
    """A prediction for each instance, in order, as POST /detect answers; one that fails fails them all."""
    asked, outcomes = await run_detection(request, partial(_read, request), name)
    answer = {"predictions": [to_wire(outcome, asked.options) for outcome in outcomes]}
    return Response(to_json(answer), media_type="application/json")


@router.get(
    "/v1/models", summary="The models", responses=protocol(DIALECT, {"models": ["coco-r50-fpn"]}, *EVERYWHERE)
)
async def models(request: Request) -> dict[str, list[str]]:
    """The name of the loaded model, or none yet."""
    serving = service_of(request).models.serving
    return {"models": [serving.name] if serving else []}


@router.get(
    "/v1/models/{name:model}",
    summary="Whether a model is ready",
    responses=protocol(
        DIALECT,
        {"name": "coco-r50-fpn", "ready": True},
        *("not_found", "loading", "draining", "failing", "overloaded"),
        *EVERYWHERE,
    ),
)
async def ready(request: Request, name: str) -> dict[str, Any]:
    """200 when the model takes work; 503 while it loads, drains or fails."""
    service = service_of(request)
    service.check_capacity()
    service.ready_model().check_name(name)
    return {"name": name, "ready": True}


async def _read(request: Request, seconds: float) -> _Asked:
    """Whatever Content-Type the client gives: they are not agreed on one."""
    media_type_of(request)  # that the body is not compressed
    return await run_in_threadpool(_of_json, await read_within(seconds, request.body()))


def _of_json(body: bytes) -> _Asked:
    given = parse_json(body, Predict, SHOWN)
    images = [_image(one, f"instances.{index}") for index, one in enumerate(given.instances)]
    return _Asked(images, params_of(given.parameters), options=given.parameters)


def _image(instance: Instance, where: str) -> bytes:
    """The bytes of an instance, whichever way it wraps its base64."""
    value: object = instance
    for _ in range(2):  # {"image": {"b64": text}}
        if isinstance(value, dict):
            value = next((value[key] for key in KEYS if key in value), None)
    if not isinstance(value, str):
        raise InvalidParameter(f"{where}: no base64 text under {', '.join(KEYS)}; send {SHOWN}")
    return decode_base64(value, where)
