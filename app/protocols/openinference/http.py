"""The Open Inference Protocol V2 over HTTP, with Triton's binary tensors: `tritonclient.http` works here."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app.errors import RETRY_SECONDS, Dialect, ServiceError
from app.protocols.base import run_detection
from app.protocols.openinference.http_body import (
    LENGTH,
    Inference,
    ParsedInference,
    read_inference,
    write_answer,
)
from app.protocols.openinference.inference import (
    check_model,
    model_config,
    model_metadata,
    outputs,
    server_metadata,
)
from app.serving.service import DetectionService
from app.transport.body import read_within
from app.transport.compression import compressed, read_body
from app.transport.context import service_of
from app.transport.openapi import EVERYWHERE, EXAMPLE_IMAGE, FILE, OF_DETECTION, json_body, protocol
from app.transport.openapi_examples import VERSION


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    return {"error": error.detail}


DIALECT = Dialect(_error)
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
    {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [EXAMPLE_IMAGE]}],
        "parameters": {"score_threshold": 0.5},
    },
    **{"application/octet-stream": FILE},
)
ANSWERS = protocol(DIALECT, EXAMPLE, "not_found", *OF_DETECTION, *EVERYWHERE)
ANSWERS[200]["content"]["application/octet-stream"] = {"schema": FILE}
OF_MODEL = ("not_found", "loading", "draining", "failing", *EVERYWHERE)
UNREADY: dict[int | str, dict[str, Any]] = {
    503: {
        "description": "Loading, draining or failing",
        "content": {"application/json": {"example": {"error": "the model is being loaded"}}},
    }
}

router = APIRouter(tags=["Open Inference Protocol"], prefix="/v2")
probes = APIRouter(tags=["Open Inference Protocol"], prefix="/v2/health")


@probes.get("/live", summary="Whether the process answers", responses=protocol(DIALECT, {"live": True}))
async def live() -> dict[str, bool]:
    """200 whenever the event loop turns."""
    return {"live": True}


@probes.get("/ready", summary="Whether work is taken", responses=protocol(DIALECT, {"ready": True}) | UNREADY)
async def ready(request: Request) -> Response:
    """200, or 503 while the model loads, drains or fails."""
    return _readiness(service_of(request), {"ready": True})


@router.get(
    "",
    summary="What server this is",
    responses=protocol(DIALECT, server_metadata() | {"version": "0.1.0"}, *EVERYWHERE),
)
async def server() -> dict[str, Any]:
    """Name, version and the extensions of the protocol that are served."""
    return server_metadata()


@router.get(
    "/models/{name}",
    summary="A model's inputs and outputs",
    responses=protocol(DIALECT, {"name": "coco-r50-fpn", "versions": ["1", VERSION]}, *OF_MODEL),
)
@router.get("/models/{name}/versions/{version}", include_in_schema=False)
async def metadata(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """Of the two inputs a request has one."""
    check_model(service_of(request), name, version)
    return model_metadata(service_of(request))


@router.get(
    "/models/{name}/config",
    summary="The same, as Triton's model configuration",
    responses=protocol(DIALECT, {"name": "coco-r50-fpn", "max_batch_size": 32}, *OF_MODEL),
)
@router.get("/models/{name}/versions/{version}/config", include_in_schema=False)
async def config(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """Dimensions are without the batch."""
    check_model(service_of(request), name, version)
    return model_config(service_of(request))


@router.get(
    "/models/{name}/ready",
    summary="Whether a model takes work",
    responses=protocol(DIALECT, {"name": "coco-r50-fpn", "ready": True}, *OF_MODEL),
)
@router.get("/models/{name}/versions/{version}/ready", include_in_schema=False)
async def model_ready(request: Request, name: str, version: str = "") -> Response:
    """200, or 503 while it loads, drains or fails."""
    check_model(service_of(request), name, version)
    return _readiness(service_of(request), {"name": name, "ready": True})


@router.post(
    "/models/{name}/infer",
    summary="Detect objects, as an Open Inference server does",
    response_class=Response,
    responses=ANSWERS,
    openapi_extra={"requestBody": BODY},
)
async def infer(
    request: Request,
    name: str,
    json_bytes: Annotated[str | None, Header(alias=LENGTH, description="Bytes of JSON.")] = None,
) -> Response:
    """Files or pixels of 1 to 32 images; boxes, labels and scores padded with 0 to the most of an image."""
    return await _infer(request, name, "", json_bytes)


@router.post(
    "/models/{name}/versions/{version}/infer",
    summary="The same, for clients that give a version",
    response_class=Response,
    responses=ANSWERS,
    openapi_extra={"requestBody": BODY},
)
async def infer_version(
    request: Request,
    name: str,
    version: str,
    json_bytes: Annotated[str | None, Header(alias=LENGTH, description="Bytes of JSON.")] = None,
) -> Response:
    """1 for whichever runs, or the very version that must; 404 when another one runs."""
    return await _infer(request, name, version, json_bytes)


async def _infer(request: Request, name: str, version: str, json_bytes: str | None) -> Response:
    service = service_of(request)
    check_model(service, name, version)
    asked, outcomes = await run_detection(request, partial(_read, request, json_bytes), name, version)
    found = outputs(outcomes, asked.options)
    body, length = await run_in_threadpool(write_answer, asked, found, outcomes[0].model)
    body, headers = await run_in_threadpool(compressed, body, request.headers.get("accept-encoding"))
    if length is None:
        return Response(body, media_type="application/json", headers=headers)
    return Response(body, media_type="application/octet-stream", headers=headers | {LENGTH: str(length)})


def _readiness(service: DetectionService, answer: dict[str, Any]) -> Response:
    headers = {"Cache-Control": "no-store"}
    if service.state == "ok":
        return JSONResponse(answer, headers=headers)
    return JSONResponse({"error": service.reason}, 503, headers | {"Retry-After": str(int(RETRY_SECONDS))})


async def _read(request: Request, json_bytes: str | None, seconds: float) -> ParsedInference:
    body = await read_within(seconds, read_body(request))
    longest = service_of(request).settings.timeout_ms
    return await run_in_threadpool(read_inference, body, json_bytes, longest)
