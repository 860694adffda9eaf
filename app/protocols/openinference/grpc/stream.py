"""ModelStreamInfer: many requests in one call, answered in order; a request that fails gets its error."""

import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

from app.errors import ServiceError
from app.protocols.openinference.grpc.calls import CallContext, OpenCalls, Read, forget_frames
from app.protocols.openinference.grpc.messages import SERVICE, parse, request_class
from app.protocols.openinference.grpc.methods import model_infer
from app.protocols.openinference.grpc.proto.grpc_service_pb2 import (
    ModelInferResponse,
    ModelStreamInferResponse,
)
from app.serving.service import DetectionService
from app.serving.streams import FATAL, outcome_of

STREAM = "ModelStreamInfer"
ROUTE = f"/{SERVICE}/{STREAM}"
IDLE_SECONDS = 60.0  # without a request: then the stream ends and its slot is free for another


async def answers(
    service: DetectionService,
    calls: OpenCalls,
    read: Read,
    time_remaining: Callable[[], float | None],
    opened: CallContext,
) -> AsyncGenerator[ModelStreamInferResponse, None]:
    """The responses; a request is read when the one before is answered. Raises what fails all later ones too.

    `time_remaining`: seconds until the call's deadline, None without one; `opened`: the call when it began.
    """
    while (data := await calls.receive_next(read, IDLE_SECONDS)) is not None:
        call = replace(opened, started=time.monotonic(), seconds=time_remaining(), nbytes=len(data))
        request = await outcome_of(parse(data, request_class(STREAM)))
        del data  # its fields are in `request`
        outcome = request
        if not isinstance(request, ServiceError):
            outcome = await outcome_of(_infer(service, calls, request, call))
        frames = service.metrics.stream_frames
        frames.labels(
            route=ROUTE, outcome="failed" if isinstance(outcome, ServiceError) else "answered"
        ).inc()
        if isinstance(outcome, FATAL):
            raise outcome
        if isinstance(outcome, ServiceError):
            yield _refusal(service, request, outcome)
        else:
            yield ModelStreamInferResponse(infer_response=outcome)


async def _infer(
    service: DetectionService, calls: OpenCalls, request: Any, call: CallContext
) -> ModelInferResponse:
    with calls.hold(call.nbytes):
        await calls.admit(call)
        return await model_infer(service, request, call)


def _refusal(service: DetectionService, request: Any, error: ServiceError) -> ModelStreamInferResponse:
    """The error's text, with the id of the request that it is about, if it could be read."""
    service.metrics.rejected.labels(code=error.code).inc()
    forget_frames(error)
    about = ModelInferResponse()
    if not isinstance(request, ServiceError):
        about = ModelInferResponse(model_name=request.model_name, id=request.id)
    return ModelStreamInferResponse(error_message=error.detail, infer_response=about)
