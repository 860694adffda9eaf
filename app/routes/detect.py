"""POST /detect and POST /detect/batch: images and options in, detections out."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, get_args

from fastapi import Request, Response
from pydantic_core import to_json

from app.errors import Internal, InvalidParameter, ServiceError, problem
from app.schemas.exports import EXPORTS, Subject
from app.schemas.limits import MAX_IMAGES
from app.schemas.options import DetectQuery, JsonFormat, JsonQuery, ModelOptions
from app.schemas.responses import (
    BatchResponse,
    DetectResponse,
    FailedItem,
    ObjectsResponse,
    Problem,
)
from app.serving.request import DrawnFormat, Outcome, Plan
from app.serving.service import DetectionService
from app.serving.several_models import detect_with_models
from app.telemetry.logs import request_id
from app.transport import openapi_examples
from app.transport.bodies.image_request import Accepted, ImageRequest, SentImage
from app.transport.bodies.images import read_image_request
from app.transport.context import other_protocol_of, pin_model, service_of
from app.transport.disconnect import cancel_on_disconnect
from app.transport.openapi import (
    DETECTIONS,
    EVERYWHERE,
    IMAGE_BODY,
    IMAGES_BODY,
    OF_DETECTION,
    OF_MODEL,
    RAW_BODY,
    problems,
    query_parameters,
)
from app.transport.query import (
    PriorityHeader,
    one_model,
    query_options,
    with_body_options,
    with_priority,
)
from app.transport.responses import answer, preferred_format, respond, write_sized
from app.transport.router import Router

router = Router("detection", "Detect objects in images, videos and animations.")
JSON_FORMATS = get_args(JsonFormat)
_DRAWN: dict[str, DrawnFormat] = {"png": "png", "jpeg": "jpeg"}
logger = logging.getLogger(__name__)


DETECT: dict[str, Any] = {
    "summary": "Detect objects in one image",
    "response_class": Response,
    "responses": {200: DETECTIONS, **problems(*OF_MODEL, *OF_DETECTION, *EVERYWHERE)},
}
_PARAMETERS = query_parameters(DetectQuery)


@router.put(  # what `curl -T` does
    "/detect",
    name="detect_file",
    openapi_extra={"requestBody": RAW_BODY, "parameters": _PARAMETERS},
    **DETECT,
)
@router.post("/invocations", include_in_schema=False)  # of SageMaker, whose /ping TorchServe has too
@router.post("/detect", openapi_extra={"requestBody": IMAGE_BODY, "parameters": _PARAMETERS}, **DETECT)
async def detect(
    request: Request,
    given: Annotated[DetectQuery, query_options(DetectQuery)],
    priority: PriorityHeader = None,
) -> Response:
    """The image as multipart part `image`, as raw body or as base64 in JSON; responds in JSON, or drawn."""
    plan = await _plan(request, with_priority(given, priority), _drawn(_format(request, given)))
    accepted = Accepted(DetectQuery, other=other_protocol_of(request))
    sent = await read_image_request(request, plan.seconds_left(), accepted)
    if sent.other is not None:
        del plan  # its body may name another model
        return await sent.other.respond(request, sent, with_priority(given, priority))
    given = with_body_options(given, sent.options)
    if len(given.model) > 1:
        del plan
        return await _detect_with_models(request, sent, with_priority(given, priority))
    if "model" in sent.options:
        del plan  # it holds another model
        plan = await _plan_of_body(request, with_priority(given, priority))
    elif sent.options or not _decides_model(request, given):
        plan = _replanned(plan, request, with_priority(given, priority))
    plan = replace(plan, draw=_drawn(_format(request, given)))
    if sent.many:
        if given.format not in (None, *JSON_FORMATS):
            raise InvalidParameter(f"format={given.format}: several images are answered in JSON")
        return await _detect_all(request, sent.images, given, replace(plan, draw=None))
    outcome = await cancel_on_disconnect(request, service_of(request).pipeline.detect(sent.one(), plan))
    return await _respond(outcome, given, _format(request, given))


def _format(request: Request, options: DetectQuery) -> str:
    return options.format or preferred_format(request.headers.get("accept"))


def _drawn(format: str) -> DrawnFormat | None:
    return _DRAWN.get(format)


async def _respond(outcome: Outcome, options: DetectQuery, format: str) -> Response:
    """The response for one image in its format."""
    if _drawn(format) is not None:
        return respond(outcome.drawn or b"", f"image/{format}", outcome.timings)
    if format in EXPORTS:
        media_type, write = EXPORTS[format]
        subject = Subject(options.file_name, outcome.size, outcome.model.name, outcome.model.labels)
        body = await write_sized([outcome], lambda: write(outcome.detections, subject).encode())
        return respond(body, media_type, outcome.timings)
    body = await write_sized([outcome], lambda: to_json(answer(outcome, options)))
    return respond(body, "application/json", outcome.timings)


@router.post(
    "/detect/batch",
    summary="Detect objects in several images",
    response_class=Response,
    responses={
        200: {"model": BatchResponse, "description": "A result for each image, in the order sent"}
        | openapi_examples.shown(openapi_examples.BATCH),
        **problems(*OF_MODEL, *OF_DETECTION, *EVERYWHERE),
    },
    openapi_extra={"requestBody": IMAGES_BODY, "parameters": query_parameters(JsonQuery)},
)
async def detect_batch(
    request: Request,
    given: Annotated[JsonQuery, query_options(JsonQuery)],
    priority: PriorityHeader = None,
) -> Response:
    """1 to 32 images with the same options, as parts `image` or in JSON; one that fails fails alone."""
    plan = await _plan(request, with_priority(given, priority))
    accepted = Accepted(JsonQuery, at_most=MAX_IMAGES, raw=False)
    sent = await read_image_request(request, plan.seconds_left(), accepted)
    given = with_body_options(given, sent.options)
    one_model(given)
    if "model" in sent.options:
        del plan  # it holds another model
        plan = await _plan_of_body(request, with_priority(given, priority))
    elif sent.options or not _decides_model(request, given):
        plan = _replanned(plan, request, with_priority(given, priority))
    return await _detect_all(request, sent.images, given, plan)


async def _detect_all(
    request: Request, images: Sequence[SentImage], options: ModelOptions, plan: Plan
) -> Response:
    """The response for several images, each with its own result."""
    service = service_of(request)
    work = asyncio.gather(*(_detect(service, image, plan) for image in images), return_exceptions=True)
    outcomes = await cancel_on_disconnect(request, work)
    found = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
    body = await write_sized(found, _written, outcomes, options, service)
    return Response(body, media_type="application/json")


async def _detect(service: DetectionService, image: SentImage, plan: Plan) -> Outcome:
    if isinstance(image, ServiceError):
        raise image
    return await service.pipeline.detect(image, plan)


async def _detect_with_models(request: Request, sent: ImageRequest, options: DetectQuery) -> Response:
    """The response for one image and several models, each with its own result."""
    service, started = service_of(request), request.state.started
    if sent.many or _format(request, options) not in JSON_FORMATS:
        raise InvalidParameter("model: several models take one image and answer in JSON; name one model here")
    del request.state.model  # no single model answers
    image, names = sent.one(), list(dict.fromkeys(options.model))
    plans = [service.plan_for(name, options, started) for name in names]
    work = detect_with_models(service, image, await asyncio.gather(*plans, return_exceptions=True))
    outcomes = await cancel_on_disconnect(request, work)
    found = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
    body = await write_sized(found, _written_by_model, names, outcomes, options, service)
    return Response(body, media_type="application/json")


def _written_by_model(
    names: list[str],
    outcomes: list[Outcome | BaseException],
    options: ModelOptions,
    service: DetectionService,
) -> bytes:
    results = [_result(outcome, options, service) for outcome in outcomes]
    return to_json({"results": dict(zip(names, results, strict=True))})


async def _plan(request: Request, options: ModelOptions, draw: DrawnFormat | None = None) -> Plan:
    """Resolve the options for their model, then wait for capacity; raises ServiceError.

    Where the body may name another model, the names of classes are checked when it is read.
    """
    service, started = service_of(request), request.state.started
    name = options.model[0] if len(options.model) == 1 else None
    if not _decides_model(request, options):
        options = options.model_copy(update={"classes": []})
    model = await pin_model(request, name, deadline=service.deadline_of(options, started))
    plan = service.plan(options, started, draw, model)
    await service.wait_for_capacity(started, plan.priority, model)
    return plan


def _decides_model(request: Request, options: ModelOptions) -> bool:
    """Whether the model is known before the body is read."""
    return len(options.model) == 1 or service_of(request).has_one_model


def _replanned(plan: Plan, request: Request, options: ModelOptions) -> Plan:
    """The plan with the options of the body, for the same model."""
    return service_of(request).plan(options, plan.started, plan.draw, plan.model)


async def _plan_of_body(request: Request, options: ModelOptions) -> Plan:
    """The plan of a request whose body names the model."""
    service, started = service_of(request), request.state.started
    model = await pin_model(request, one_model(options), deadline=service.deadline_of(options, started))
    return service.plan(options, started, model=model)


def _written(
    outcomes: list[Outcome | BaseException], options: ModelOptions, service: DetectionService
) -> bytes:
    results = [_result(outcome, options, service) for outcome in outcomes]
    return to_json({"results": results})  # half the time of a BatchResponse


def _result(
    outcome: Outcome | BaseException, options: ModelOptions, service: DetectionService
) -> DetectResponse | ObjectsResponse | FailedItem:
    if isinstance(outcome, Outcome):
        return answer(outcome, options)
    if not isinstance(outcome, ServiceError):
        logger.error("an image of a batch failed", exc_info=outcome)
        outcome = Internal("an error of the service; its log has the reason under this request's id")
    service.metrics.rejected.labels(code=outcome.code).inc()
    return FailedItem(error=Problem.model_validate(problem(outcome, request_id.get())))
