"""TorchServe's inference API with the answer of its object_detector, for those whose server was archived."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AliasChoices, BaseModel, Field
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from app.errors import RETRY_SECONDS, Dialect, NotFound, ServiceError
from app.protocols.base import ParsedRequest, run_detection
from app.serving.request import Outcome
from app.transport.body import MULTIPART, decode_base64, media_type_of, parse_json, read_form, read_within
from app.transport.context import service_of
from app.transport.openapi import EVERYWHERE, EXAMPLE_IMAGE, FILE, OF_DETECTION, json_body, protocol
from app.transport.responses import PIXEL_DECIMALS, names, respond, rounded, scores

IMAGE = ("data", "body", "image", "file")
VERSIONS = ("1.0", "1")
"""A card has no version; an archive that says nothing else is 1.0."""

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


DIALECT = Dialect(_error)
FORM = {"type": "object", "properties": {"data": FILE}, "required": ["data"]}
BODY = json_body(
    Data, {"data": EXAMPLE_IMAGE}, **{"image/*": FILE, "application/octet-stream": FILE, MULTIPART: FORM}
)
EXAMPLE = [{"person": [12.5, 30.0, 200.25, 310.75], "score": 0.98}]
UNHEALTHY: dict[int | str, dict[str, Any]] = {
    503: {
        "description": "Loading, draining or failing",
        "content": {"application/json": {"example": {"status": "Unhealthy"}}},
    }
}

predictions = APIRouter(tags=["TorchServe"])
pings = APIRouter(tags=["TorchServe"])


@pings.get(
    "/ping", summary="Whether work is taken", responses=protocol(DIALECT, {"status": "Healthy"}) | UNHEALTHY
)
async def ping(request: Request) -> Response:
    """Healthy with 200, or Unhealthy with 503 while the model loads, drains or fails."""
    if service_of(request).state == "ok":
        return JSONResponse({"status": "Healthy"})
    return JSONResponse({"status": "Unhealthy"}, 503, {"Retry-After": str(int(RETRY_SECONDS))})


@predictions.put(  # what `curl -T` does
    "/predictions/{name}",
    summary="As POST",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, "not_found", *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
@predictions.post(
    "/predictions/{name}",
    summary="Detect objects, as TorchServe's object_detector does",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, "not_found", *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def predict(request: Request, name: str) -> Response:
    """The image as the body, as the file `data` of a form, or in JSON; answers name to box, and score."""
    _, [outcome] = await run_detection(request, partial(_read, request), name)
    return respond(to_json(_answer(outcome)), "application/json", outcome.timings)


@predictions.put(  # what `curl -T` does
    "/predictions/{name}/{version}",
    summary="As POST",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, "not_found", *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
@predictions.post(
    "/predictions/{name}/{version}",
    summary="The same, for clients that give a version",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, "not_found", *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def predict_version(request: Request, name: str, version: str) -> Response:
    """A model here has the version 1.0 and no other."""
    if version not in VERSIONS:
        raise NotFound(f"no version {version[:60]!r} of a model here; ask for {VERSIONS[0]}, or for none")
    return await predict(request, name)


async def _read(request: Request, seconds: float) -> ParsedRequest:
    media_type, _ = media_type_of(request)
    if media_type == MULTIPART:
        return ParsedRequest([(await read_form(request, seconds, IMAGE)).image(*IMAGE)])
    body = await read_within(seconds, request.body())
    return (
        await run_in_threadpool(_of_json, body) if media_type == "application/json" else ParsedRequest([body])
    )


def _of_json(body: bytes) -> ParsedRequest:
    return ParsedRequest([decode_base64(parse_json(body, Data, '{"data": "<base64>"}').data, "data")])


def _answer(outcome: Outcome) -> list[dict[str, Any]]:
    boxes = rounded(outcome.detections.boxes, PIXEL_DECIMALS)
    found = zip(names(outcome), boxes, scores(outcome), strict=True)
    return [{name: box, "score": score} for name, box, score in found]
