"""The Open Inference Protocol V2 over HTTP, with Triton's binary tensors, as `tritonclient.http` uses it."""

from functools import partial
from typing import Annotated, Any

from fastapi import Header, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app.errors import RETRY_SECONDS, Dialect, ServiceError
from app.protocols.base import run_detection
from app.protocols.openinference import inference
from app.protocols.openinference.http_body import (
    LENGTH,
    Inference,
    ParsedInference,
    read_inference,
    read_shared,
    write_response,
)
from app.protocols.openinference.shared_memory import SharedMemory, available, for_client
from app.serving.request import Outcome
from app.serving.service import DetectionService
from app.transport.body import read_within
from app.transport.compression import compressed
from app.transport.context import service_of
from app.transport.middleware.body_limit import body_count
from app.transport.openapi import EVERYWHERE, EXAMPLE_IMAGE, FILE, OF_DETECTION, OF_MODEL, json_body, protocol
from app.transport.openapi_examples import VERSION
from app.transport.router import Router


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    return {"error": error.detail}


DIALECT = Dialect(_error, below=("/v2",))
DETECTED = {
    "boxes": ("FP32", [1, 1, 4], [12.5, 30.0, 200.25, 310.75]),
    "labels": ("INT64", [1, 1], [1]),
    "scores": ("FP32", [1, 1], [0.98]),
    "num_detections": ("INT32", [1], [1]),
}
EXAMPLE = {
    "model_name": "coco-r50-fpn",
    "model_version": VERSION,
    "outputs": [
        {"name": name, "datatype": datatype, "shape": shape, "data": data}
        for name, (datatype, shape, data) in DETECTED.items()
    ],
}
BODY = json_body(
    Inference,
    "Oip",
    {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [EXAMPLE_IMAGE]}],
        "parameters": {"score_threshold": 0.5},
    },
    "Or JSON with binary data behind it: Inference-Header-Content-Length is then the length of the JSON.",
)
ANSWERS = protocol(DIALECT, EXAMPLE, *OF_MODEL, *OF_DETECTION, *EVERYWHERE)
ANSWERS[200]["content"]["application/octet-stream"] = {"schema": FILE}
OF_METADATA = ("unknown_model", "loading", "draining", "failing", *EVERYWHERE)
UNREADY: dict[int | str, dict[str, Any]] = {
    503: {
        "description": "Loading, draining or failing",
        "content": {"application/json": {"example": {"error": "the model is being loaded"}}},
    }
}

TAG = "Open Inference Protocol"
router = Router(
    TAG,
    "The Open Inference Protocol V2 of Triton and KServe, with Triton's model repository.",
    dialect=DIALECT,
    prefix="/v2",
    operations="oip_",
)
probes = Router(TAG, dialect=DIALECT, access=None, prefix="/v2/health", operations="oip_server_")

JsonBytes = Annotated[
    str | None, Header(alias=LENGTH, description="Number of bytes of the JSON, before binary data.")
]


@probes.get(
    "/live", summary="Liveness (Open Inference Protocol)", responses=protocol(DIALECT, {"live": True})
)
async def live() -> dict[str, bool]:
    """200 while the event loop runs."""
    return {"live": True}


@probes.get(
    "/ready",
    summary="Readiness (Open Inference Protocol)",
    responses=protocol(DIALECT, {"ready": True}) | UNREADY,
)
async def ready(request: Request) -> Response:
    """200, or 503 while the service loads, drains or fails."""
    return _readiness(service_of(request), {"ready": True})


@router.get(
    "",
    summary="Metadata of the server",
    responses=protocol(DIALECT, inference.server_metadata() | {"version": "0.1.0"}, *EVERYWHERE),
)
async def server_metadata() -> dict[str, Any]:
    """Name, version and the supported extensions of the protocol."""
    return inference.server_metadata()


@router.get(
    "/models/{name}",
    summary="Metadata of a model: inputs and outputs",
    responses=protocol(DIALECT, {"name": "coco-r50-fpn", "versions": ["1", VERSION]}, *OF_METADATA),
)
@router.get("/models/{name}/versions/{version}", include_in_schema=False)
async def model_metadata(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """A request has one of the two inputs."""
    return inference.model_metadata(service_of(request).find_model(name, version))


@router.get(
    "/models/{name}/config",
    summary="Configuration of a model (Triton)",
    responses=protocol(DIALECT, {"name": "coco-r50-fpn", "max_batch_size": 32}, *OF_METADATA),
)
@router.get("/models/{name}/versions/{version}/config", include_in_schema=False)
async def model_config(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """The dimensions have no batch."""
    return inference.model_config(service_of(request).find_model(name, version))


@router.get(
    "/models/{name}/ready",
    summary="Readiness of a model",
    responses=protocol(DIALECT, {"name": "coco-r50-fpn", "ready": True}, *OF_METADATA),
)
@router.get("/models/{name}/versions/{version}/ready", include_in_schema=False)
async def model_ready(request: Request, name: str, version: str = "") -> Response:
    """200, or 503 while the service loads, drains or fails."""
    service_of(request).find_model(name, version)
    return _readiness(service_of(request), {"name": name, "ready": True})


@router.post(
    "/models/{name}/infer",
    summary="Detect objects (Open Inference Protocol)",
    response_class=Response,
    responses=ANSWERS,
    openapi_extra={"requestBody": BODY},
)
async def infer(request: Request, name: str, json_bytes: JsonBytes = None) -> Response:
    """Files or pixels of 1 to 32 images; boxes, labels and scores are padded with 0 to one length."""
    return await _infer(request, name, "", json_bytes)


@router.post(
    "/models/{name}/versions/{version}/infer",
    summary="Detect objects with a version of a model (Open Inference Protocol)",
    response_class=Response,
    responses=ANSWERS,
    openapi_extra={"requestBody": BODY},
)
async def infer_version(request: Request, name: str, version: str, json_bytes: JsonBytes = None) -> Response:
    """Version 1 is the loaded one, whichever that is; 404 for any other than the loaded one."""
    return await _infer(request, name, version, json_bytes)


async def _infer(request: Request, name: str, version: str, json_bytes: str | None) -> Response:
    parsed, outcomes = await run_detection(request, partial(_read, request, json_bytes), name, version)
    accepted = request.headers.get("accept-encoding")
    body, length, headers = await run_in_threadpool(_written, parsed, outcomes, accepted)
    if length is None:
        return Response(body, media_type="application/json", headers=headers)
    return Response(body, media_type="application/octet-stream", headers=headers | {LENGTH: str(length)})


def _written(
    parsed: ParsedInference, outcomes: list[Outcome], accepted: str | None
) -> tuple[bytes, int | None, dict[str, str]]:
    """The body, the bytes of its JSON if binary data follow, and the headers."""
    arrays = inference.outputs(outcomes, parsed.options)
    body, length = write_response(parsed, arrays, outcomes[0].model)
    body, headers = compressed(body, accepted)
    return body, length, headers


def _readiness(service: DetectionService, document: dict[str, Any]) -> Response:
    headers = {"Cache-Control": "no-store"}
    if service.ready:
        return JSONResponse(document, headers=headers)
    return JSONResponse({"error": service.reason}, 503, headers | {"Retry-After": str(int(RETRY_SECONDS))})


async def _read(request: Request, json_bytes: str | None, seconds: float) -> ParsedInference:
    body = await read_within(seconds, request.body())
    limit_ms = service_of(request).settings.timeout_ms
    parsed = await run_in_threadpool(read_inference, body, json_bytes, limit_ms)
    if parsed.part is None:
        return parsed
    memory = available(shared_memory_of(request))
    body_count(request).hold(memory.size(parsed.part))
    return await run_in_threadpool(read_shared, parsed, parsed.part, memory)


def shared_memory_of(request: Request) -> SharedMemory | None:
    """The shared memory that `create_app` built, for a client on this machine.

    One without an address is here only where the server listens on a Unix socket: Ray's proxy shows none.
    """
    unknown = None if service_of(request).settings.uds is not None else ""
    address = request.client.host if request.client else unknown
    return for_client(request.app.state.shared_memory, address, request.headers)
