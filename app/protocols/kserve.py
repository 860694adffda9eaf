"""KServe's V1 protocol, which TensorFlow Serving and Vertex AI share: base64 in, predictions out."""

from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.convertors import StringConvertor, register_url_convertor

from app.errors import RETRY_SECONDS, STOPPING, Dialect, Draining, InvalidParameter, ServiceError
from app.protocols.base import ParsedRequest, run_detection
from app.schemas.limits import MAX_IMAGES
from app.schemas.options import DetectOptions
from app.serving.request import Outcome
from app.transport import openapi_examples
from app.transport.body import read_within
from app.transport.context import service_of
from app.transport.json_body import decode_base64, parse_json
from app.transport.openapi import EVERYWHERE, EXAMPLE_IMAGE, OF_DETECTION, OF_MODEL, json_body, protocol
from app.transport.responses import to_wire, write_sized
from app.transport.router import Router
from app.transport.threads import run_sized

KEYS = ("b64", "image", "image_bytes", "data")
USAGE = '{"instances": [{"b64": "<base64>"}]}'

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


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    return {"error": error.detail}


DIALECT = Dialect(_error, below=("/v1/models", "/v1/endpoints"))
BODY = json_body(
    Predict, "KServe", {"instances": [{"b64": EXAMPLE_IMAGE}], "parameters": {"score_threshold": 0.5}}
)
EXAMPLE = {"predictions": [openapi_examples.DETECTION]}

router = Router(
    "KServe V1",
    "The V1 protocol of KServe and TensorFlow Serving.",
    dialect=DIALECT,
    operations="kserve_",
)


# What AIP_PREDICT_ROUTE and AIP_HEALTH_ROUTE are, unless a user sets them to others: vertex_routers.
vertex = Router(
    "Vertex AI", "Vertex AI's routes of a custom container.", dialect=DIALECT, operations="vertex_"
)
vertex_probes = Router("Vertex AI", dialect=DIALECT, access=None, operations="vertex_")


class _Name(StringConvertor):
    """A model's name in a path, without a colon and a verb, which is another resource."""

    regex = "[^/:]+"


register_url_convertor("model", _Name())


@router.post(
    "/v1/models/{name}:predict",
    summary="Detect objects (KServe V1 predict)",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, *OF_MODEL, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def predict(request: Request, name: str) -> Response:
    """A prediction for each instance, in order, as of POST /detect; one that fails, fails the request."""
    return await predict_instances(request, name)


async def predict_instances(request: Request, name: str | None = None) -> Response:
    """The response to a request of V1 for a model, by default the default one."""
    parsed, outcomes = await run_detection(request, partial(_read, request), name)
    body = await write_sized(outcomes, _written, outcomes, parsed.options)
    return Response(body, media_type="application/json")


@router.get(
    "/v1/models",
    summary="List the models",
    responses=protocol(DIALECT, {"models": ["coco-r50-fpn"]}, *EVERYWHERE),
)
async def list_models(request: Request) -> dict[str, list[str]]:
    """The names of the loaded models; empty until they are loaded."""
    return {"models": list(service_of(request).models.ready)}


@router.get(
    "/v1/models/{name:model}",
    summary="Readiness of a model",
    responses=protocol(
        DIALECT,
        {"name": "coco-r50-fpn", "ready": True},
        *("unknown_model", "loading", "draining", "failing", "overloaded"),
        *EVERYWHERE,
    ),
)
async def model_ready(request: Request, name: str) -> dict[str, Any]:
    """200 when the model accepts requests; 503 while the service loads, drains or fails."""
    service = service_of(request)
    service.check_capacity()
    if service.stopping:  # requests are still taken, but clients should go elsewhere
        raise Draining(STOPPING, RETRY_SECONDS)
    service.find_model(name)
    return {"name": name, "ready": True}


@vertex.post(
    "/v1/endpoints/{endpoint}/deployedModels/{deployed}:predict",
    summary="Detect objects (Vertex AI)",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def predict_deployed(request: Request, endpoint: str, deployed: str) -> Response:
    """As KServe V1, by the default model: the names in the path are Vertex AI's own."""
    return await predict_instances(request)


@vertex_probes.get(
    "/v1/endpoints/{endpoint}/deployedModels/{deployed:model}",
    summary="Readiness (Vertex AI)",
    responses=protocol(DIALECT, {"ready": True}, "loading", "draining", "failing"),
)
async def deployed_ready(request: Request, endpoint: str, deployed: str) -> Response:
    """200, or 503 while the service loads, drains or fails."""
    return _readiness(request)


def vertex_routers(health: str | None, predict: str | None) -> list[Router]:
    """Routers for the paths that Vertex AI was told to ask; None for a path that it was not told."""
    probes = Router("Vertex AI", dialect=DIALECT, access=None, operations="vertex_")
    predictions = Router("Vertex AI", dialect=DIALECT, operations="vertex_")

    async def told_ready(request: Request) -> Response:
        return _readiness(request)

    async def predict_told(request: Request) -> Response:
        return await predict_instances(request)

    if health is not None:
        probes.add_api_route(health, told_ready, include_in_schema=False)
    if predict is not None:
        predictions.add_api_route(predict, predict_told, methods=["POST"], include_in_schema=False)
    return [probes, predictions]


def _readiness(request: Request) -> Response:
    service = service_of(request)
    if service.ready:
        return JSONResponse({"ready": True})
    return JSONResponse({"error": service.reason}, 503, {"Retry-After": str(int(RETRY_SECONDS))})


async def _read(request: Request, seconds: float) -> ParsedRequest:
    """With any Content-Type: clients do not agree on one."""
    body = await read_within(seconds, request.body())
    return await run_sized(len(body), _of_json, body)


def _written(outcomes: list[Outcome], options: DetectOptions) -> bytes:
    return to_json({"predictions": [to_wire(outcome, options) for outcome in outcomes]})


def _of_json(body: bytes) -> ParsedRequest:
    predict = parse_json(body, Predict, USAGE)
    images = [_image(instance, f"instances.{index}") for index, instance in enumerate(predict.instances)]
    return ParsedRequest(images, predict.parameters)


def _image(instance: Instance, where: str) -> bytes:
    """The bytes of an instance, in any of its forms."""
    value: object = instance
    for _ in range(2):  # {"image": {"b64": text}}
        if isinstance(value, dict):
            value = next((value[key] for key in KEYS if key in value), None)
    if not isinstance(value, str):
        raise InvalidParameter(f"{where}: no base64 text under {', '.join(KEYS)}; send {USAGE}")
    return decode_base64(value, where)
