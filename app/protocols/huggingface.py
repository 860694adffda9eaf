"""Hugging Face's object-detection task, so that `InferenceClient(model=URL).object_detection` works here.

The client posts to the very URL that it is given as its model: the bare address of this server, or
/models/NAME on it. It sends the image as it is, or JSON in base64 when there are parameters.
"""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from app.errors import Dialect, ServiceError, UnsupportedMediaType
from app.protocols.base import ParsedRequest, run_detection
from app.schemas.options import Fraction
from app.serving.request import DetectParams, Outcome
from app.transport.body import MULTIPART, decode_base64, media_type_of, parse_json, read_within, said
from app.transport.openapi import EVERYWHERE, EXAMPLE_IMAGE, FILE, OF_DETECTION, json_body, protocol
from app.transport.responses import names, pixel_boxes, respond, scores

SHOWN = '{"inputs": "<base64>", "parameters": {"threshold": 0.5}}'


class Parameters(BaseModel):
    """Parameters of the task."""

    model_config = ConfigDict(extra="forbid", strict=True)

    threshold: Fraction | None = Field(default=None, description="Leave out objects below this score.")


class Inputs(BaseModel):
    """A request in JSON; what else a client sends beside these is about Hugging Face's own service."""

    inputs: str = Field(description="The image file in base64.")
    parameters: Parameters | None = None


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    waiting = {} if error.retry_after is None else {"estimated_time": error.retry_after}
    return {"error": error.detail, **waiting}


DIALECT = Dialect(_error)
BODY = json_body(
    Inputs,
    {"inputs": EXAMPLE_IMAGE, "parameters": {"threshold": 0.5}},
    **{"image/*": FILE, "application/octet-stream": FILE},
)
EXAMPLE = [{"label": "person", "score": 0.98, "box": {"xmin": 12, "ymin": 30, "xmax": 200, "ymax": 311}}]

router = APIRouter(tags=["Hugging Face"])


@router.post(
    "/",
    summary="Detect objects, as a Hugging Face endpoint does",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def endpoint(request: Request) -> Response:
    """The image as the body, or in JSON with a threshold; without one the card's own holds."""
    return await _detect(request, None)


@router.post(
    "/models/{name}",
    summary="Detect objects with a model by its name, as Hugging Face's API does",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, "not_found", *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def model(request: Request, name: str) -> Response:
    """As POST /, for clients that name the model; 404 for any but the loaded one."""
    return await _detect(request, name)


async def _detect(request: Request, name: str | None) -> Response:
    _, [outcome] = await run_detection(request, partial(_read, request), name)
    return respond(to_json(_answer(outcome)), "application/json", outcome.timings)


async def _read(request: Request, seconds: float) -> ParsedRequest:
    """The body is what it looks like: before 0.31 the client says no Content-Type, with JSON neither."""
    media_type, _ = media_type_of(request)
    if media_type == MULTIPART:
        raise UnsupportedMediaType(f"{said(media_type)}; send the image file as the body, or {SHOWN}")
    body = await read_within(seconds, request.body())
    if media_type != "application/json" and body.lstrip()[:1] != b"{":
        return ParsedRequest([body])
    return await run_in_threadpool(_of_json, body)


def _of_json(body: bytes) -> ParsedRequest:
    given = parse_json(body, Inputs, SHOWN)
    threshold = given.parameters.threshold if given.parameters else None
    return ParsedRequest([decode_base64(given.inputs, "inputs")], DetectParams(score_threshold=threshold))


def _answer(outcome: Outcome) -> list[dict[str, Any]]:
    corners = ("xmin", "ymin", "xmax", "ymax")
    return [
        {"label": name, "score": score, "box": dict(zip(corners, box, strict=True))}
        for name, score, box in zip(names(outcome), scores(outcome), pixel_boxes(outcome), strict=True)
    ]
