"""POST /detect and POST /detect/batch: bytes and options in, detections out, while the client is there."""

import asyncio
import logging

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from app.errors import Internal, ServiceError, problem
from app.schemas.exports import EXPORTS, Subject
from app.schemas.options import DetectOptions, DetectQuery
from app.schemas.responses import BatchResponse, DetectResponse, FailedItem, Problem
from app.serving.request import MAX_IMAGES, Outcome, params_of
from app.serving.service import DetectionService
from app.telemetry.logs import request_id
from app.transport import openapi_examples
from app.transport.access import Guarded
from app.transport.body import cancel_on_disconnect, read_image, read_images
from app.transport.context import pin_model, service_of
from app.transport.openapi import (
    DETECTIONS,
    EVERYWHERE,
    IMAGE_BODY,
    IMAGES_BODY,
    OF_DETECTION,
    problems,
    query_parameters,
)
from app.transport.query import PARAMETER, read_query, requested_priority
from app.transport.responses import (
    preferred_format,
    respond,
    to_wire,
)

router = APIRouter(tags=["detection"], route_class=Guarded)
logger = logging.getLogger(__name__)


@router.post(
    "/detect",
    summary="Detect objects in one image",
    response_class=Response,
    responses={200: DETECTIONS, **problems(*OF_DETECTION, *EVERYWHERE)},
    openapi_extra={"requestBody": IMAGE_BODY, "parameters": [*query_parameters(DetectQuery), PARAMETER]},
)
async def detect(request: Request) -> Response:
    """One image as multipart part `image`, as raw body or as base64 in JSON; answered in JSON, or drawn."""
    service = service_of(request)
    await service.wait_for_capacity(request.state.started, requested_priority(request))
    query = read_query(request, DetectQuery)
    answer = query.format or preferred_format(request.headers.get("accept"))
    draw = answer if answer == "png" or answer == "jpeg" else None
    plan = service.plan(params_of(query), request.state.started, draw, pin_model(request))
    data = await read_image(request, plan.seconds_left())
    outcome = await cancel_on_disconnect(request, service.pipeline.detect(data, plan))
    if draw is not None:
        return respond(outcome.drawn or b"", f"image/{draw}", outcome.timings)
    if answer in EXPORTS:
        media_type, write = EXPORTS[answer]
        text = write(outcome.detections, _subject(outcome, query))
        return respond(text.encode(), media_type, outcome.timings)
    return respond(to_json(to_wire(outcome, query)), "application/json", outcome.timings)


@router.post(
    "/detect/batch",
    summary="Detect objects in several images",
    response_class=Response,
    responses={
        200: {"model": BatchResponse, "description": "One result an image, in the order sent"}
        | openapi_examples.shown(openapi_examples.BATCH),
        **problems(*OF_DETECTION, *EVERYWHERE),
    },
    openapi_extra={"requestBody": IMAGES_BODY, "parameters": [*query_parameters(DetectOptions), PARAMETER]},
)
async def detect_batch(request: Request) -> Response:
    """Up to 32 parts `image`, one set of options; an image that fails does so alone, as `{"error": …}`."""
    service = service_of(request)
    await service.wait_for_capacity(request.state.started, requested_priority(request))
    query = read_query(request, DetectOptions)
    plan = service.plan(params_of(query), request.state.started, model=pin_model(request))
    parts = await read_images(request, plan.seconds_left(), MAX_IMAGES)
    work = asyncio.gather(*(service.pipeline.detect(data, plan) for data in parts), return_exceptions=True)
    results = [_result(outcome, query, service) for outcome in await cancel_on_disconnect(request, work)]
    return Response(to_json(BatchResponse.model_construct(results=results)), media_type="application/json")


def _subject(outcome: Outcome, query: DetectQuery) -> Subject:
    return Subject(query.file_name, outcome.size, outcome.model.name, outcome.model.labels)


def _result(
    outcome: Outcome | BaseException, query: DetectOptions, service: DetectionService
) -> DetectResponse | FailedItem:
    if isinstance(outcome, Outcome):
        return to_wire(outcome, query)
    if not isinstance(outcome, ServiceError):
        logger.error("an image of a batch failed", exc_info=outcome)
        outcome = Internal("an error of the service; its log has the reason under this request's id")
    service.metrics.rejected.labels(code=outcome.code).inc()
    return FailedItem(error=Problem.model_validate(problem(outcome, request_id.get())))
