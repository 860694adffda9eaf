"""Hugging Face's object-detection task: `InferenceClient(model=URL).object_detection` works with this server.

The client posts to the URL that it has as its model: the address of this server, or /models/NAME or /hf/NAME
on it. It sends the image file as the body, or JSON with base64 if there are parameters.
"""

from functools import partial
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from app.errors import Dialect, ServiceError
from app.protocols.base import ParsedRequest, run_detection
from app.schemas.options import DetectOptions, Fraction
from app.serving.request import Outcome
from app.transport.body import MULTIPART, media_type_of, read_within, unsupported
from app.transport.json_body import decode_base64, parse_json
from app.transport.openapi import EVERYWHERE, EXAMPLE_IMAGE, OF_DETECTION, OF_MODEL, json_body, protocol
from app.transport.responses import names, pixel_boxes, respond, scores, write_sized
from app.transport.router import Router
from app.transport.threads import run_sized

USAGE = '{"inputs": "<base64>", "parameters": {"threshold": 0.5}}'


class Parameters(BaseModel):
    """Parameters of the task."""

    model_config = ConfigDict(extra="forbid", strict=True)

    threshold: Fraction | None = Field(default=None, description="Minimum confidence: a number from 0 to 1.")


class Inputs(BaseModel):
    """A request in JSON; other keys are for Hugging Face's own service and ignored."""

    inputs: str = Field(description="The image file in base64.")
    parameters: Parameters | None = None


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    waiting = {} if error.retry_after is None else {"estimated_time": error.retry_after}
    return {"error": error.detail, **waiting}


DIALECT = Dialect(_error, below=("/hf", "/pipeline"))
BODY = json_body(
    Inputs,
    "HuggingFace",
    {"inputs": EXAMPLE_IMAGE, "parameters": {"threshold": 0.5}},
    "Or the image file as the whole body.",
)
EXAMPLE = [{"label": "person", "score": 0.98, "box": {"xmin": 12, "ymin": 30, "xmax": 200, "ymax": 311}}]

router = Router(
    "Hugging Face",
    "The object-detection task of `huggingface_hub.InferenceClient`.",
    dialect=DIALECT,
    operations="huggingface_",
)


@router.post(
    "/",
    summary="Detect objects (Hugging Face endpoint)",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def detect(request: Request) -> Response:
    """The image as the body, or in JSON with a threshold; the default threshold is the card's."""
    return await _detect(request, None)


@router.post(
    "/hf/{name}",
    name="detect_with_model_of_path",
    summary="Detect objects with a named model (Hugging Face endpoint)",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, *OF_MODEL, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
@router.post(
    "/models/{name}",
    summary="Detect objects with a named model (Hugging Face API)",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, *OF_MODEL, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def detect_with_model(request: Request, name: str) -> Response:
    """As POST /, for clients that name the model; 404 for one that is not loaded."""
    return await _detect(request, name)


async def _detect(request: Request, name: str | None) -> Response:
    _, [outcome] = await run_detection(request, partial(_read, request), name)
    body = await write_sized([outcome], lambda: to_json(_objects(outcome)))
    return respond(body, "application/json", outcome.timings)


async def _read(request: Request, seconds: float) -> ParsedRequest:
    """Detects JSON by its first byte too: the client before 0.31 sends no Content-Type."""
    media_type, _ = media_type_of(request)
    if media_type == MULTIPART:
        raise unsupported(media_type, f"the image file as the body, or {USAGE}")
    body = await read_within(seconds, request.body())
    if media_type != "application/json" and body[:1024].lstrip()[:1] != b"{":
        return ParsedRequest([body])
    return await run_sized(len(body), _of_json, body)


def _of_json(body: bytes) -> ParsedRequest:
    parsed = parse_json(body, Inputs, USAGE)
    threshold = parsed.parameters.threshold if parsed.parameters else None
    return ParsedRequest([decode_base64(parsed.inputs, "inputs")], DetectOptions(score_threshold=threshold))


def _objects(outcome: Outcome) -> list[dict[str, Any]]:
    corners = ("xmin", "ymin", "xmax", "ymax")
    return [
        {"label": name, "score": score, "box": dict(zip(corners, box, strict=True))}
        for name, score, box in zip(names(outcome), scores(outcome), pixel_boxes(outcome), strict=True)
    ]
