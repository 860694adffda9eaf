"""TorchServe's inference API, with the response of its object_detector."""

from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import AliasChoices, BaseModel, Field
from pydantic_core import to_json

from app.errors import RETRY_SECONDS, Dialect, ServiceError
from app.protocols.base import ParsedRequest, run_detection
from app.serving.request import Outcome
from app.transport.body import MULTIPART, media_type_of, read_form, read_within
from app.transport.context import service_of
from app.transport.json_body import decode_base64, parse_json
from app.transport.openapi import EVERYWHERE, FILE, OF_DETECTION, OF_MODEL, protocol
from app.transport.responses import PIXEL_DECIMALS, names, respond, rounded, scores, write_sized
from app.transport.router import Router
from app.transport.threads import run_sized

IMAGE = ("data", "body", "image", "file")
VERSIONS = ("1.0", "1")
"""Of a client that knows none; 1.0 is the default of a TorchServe archive."""

_TYPES = {
    400: "BadRequestException",
    401: "InvalidKeyException",
    404: "ModelNotFoundException",
    405: "MethodNotAllowedException",
    429: "ServiceUnavailableException",
    503: "ServiceUnavailableException",
}


class Data(BaseModel):
    """A request in JSON."""

    data: str = Field(
        validation_alias=AliasChoices("data", "body"), description="The image file in base64; or as `body`."
    )


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    other = "InternalServerException" if error.status >= 500 else "BadRequestException"
    return {"code": error.status, "type": _TYPES.get(error.status, other), "message": error.detail}


DIALECT = Dialect(_error, below=("/predictions", "/explanations"))
BODY = {
    "required": True,
    "description": 'The image file, as the whole body or as the part `data` of a form; or JSON: `{"data": '
    '"<base64>"}`.',
    "content": {"application/octet-stream": {"schema": FILE}},
}
EXAMPLE = [{"person": [12.5, 30.0, 200.25, 310.75], "score": 0.98}]
UNHEALTHY: dict[int | str, dict[str, Any]] = {
    503: {
        "description": "Loading, draining or failing",
        "content": {"application/json": {"example": {"status": "Unhealthy"}}},
    }
}

DETECTION: dict[str, Any] = {
    "response_class": Response,
    "responses": protocol(DIALECT, EXAMPLE, *OF_MODEL, *OF_DETECTION, *EVERYWHERE),
    "openapi_extra": {"requestBody": BODY},
}

predictions = Router(
    "TorchServe",
    "TorchServe's inference API, as of its `object_detector`.",
    dialect=DIALECT,
    operations="torchserve_",
)
pings = Router("TorchServe", dialect=DIALECT, access=None, operations="torchserve_")


@pings.get(
    "/ping", summary="Readiness (TorchServe)", responses=protocol(DIALECT, {"status": "Healthy"}) | UNHEALTHY
)
async def ping(request: Request) -> Response:
    """Healthy with 200, or Unhealthy with 503 while the service loads, drains or fails."""
    if service_of(request).ready:
        return JSONResponse({"status": "Healthy"})
    return JSONResponse({"status": "Unhealthy"}, 503, {"Retry-After": str(int(RETRY_SECONDS))})


@predictions.put(  # what `curl -T` does
    "/predictions/{name}",
    name="put_prediction",
    summary="Detect objects (TorchServe, as POST)",
    **DETECTION,
)
@predictions.post(
    "/predictions/{name}",
    summary="Detect objects (TorchServe)",
    **DETECTION,
)
async def predict(request: Request, name: str) -> Response:
    """The image as the body, as the file `data` of a form, or in JSON; objects as name to box, and score."""
    return await _predict(request, name, "")


async def _predict(request: Request, name: str, version: str) -> Response:
    _, [outcome] = await run_detection(request, partial(_read, request), name, version)
    body = await write_sized([outcome], lambda: to_json(_objects(outcome)))
    return respond(body, "application/json", outcome.timings)


@predictions.put(  # what `curl -T` does
    "/predictions/{name}/{version}",
    name="put_prediction_version",
    summary="Detect objects (TorchServe, as POST)",
    **DETECTION,
)
@predictions.post(
    "/predictions/{name}/{version}",
    summary="Detect objects with a version of a model (TorchServe)",
    **DETECTION,
)
async def predict_version(request: Request, name: str, version: str) -> Response:
    """As without a version; it is 1.0, or the model's own."""
    return await _predict(request, name, "" if version in VERSIONS else version)


async def _read(request: Request, seconds: float) -> ParsedRequest:
    media_type, _ = media_type_of(request)
    if media_type == MULTIPART:
        return ParsedRequest([(await read_form(request, seconds, IMAGE)).image(*IMAGE)])
    body = await read_within(seconds, request.body())
    if media_type != "application/json":
        return ParsedRequest([body])
    return await run_sized(len(body), _of_json, body)


def _of_json(body: bytes) -> ParsedRequest:
    return ParsedRequest([decode_base64(parse_json(body, Data, '{"data": "<base64>"}').data, "data")])


def _objects(outcome: Outcome) -> list[dict[str, Any]]:
    boxes = rounded(outcome.detections.boxes, PIXEL_DECIMALS)
    columns = zip(names(outcome), boxes, scores(outcome), strict=True)
    return [{name: box, "score": score} for name, box, score in columns]
