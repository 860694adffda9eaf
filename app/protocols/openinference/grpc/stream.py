"""ModelStreamInfer: many requests in one call, answered in order; a request that fails gets its error."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from app.errors import ServiceError
from app.protocols.openinference.grpc.methods import CallContext, model_infer
from app.protocols.openinference.grpc.proto.grpc_service_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from app.serving.service import DetectionService
from app.serving.streams import FATAL, outcome_of

SERVICE = "inference.GRPCInferenceService"
STREAM = "ModelStreamInfer"
ROUTE = f"/{SERVICE}/{STREAM}"
IDLE_SECONDS = 60.0  # without a request: then the stream ends and its slot is free for another


async def answers(
    service: DetectionService,
    requests: AsyncIterator[ModelInferRequest],
    time_remaining: Callable[[], float | None],
) -> AsyncIterator[ModelStreamInferResponse]:
    """The responses; a request is read when the one before is answered. Raises what fails all later ones too.

    `time_remaining`: seconds until the call's deadline, None without one.
    """
    while (request := await _next(requests)) is not None:
        call = CallContext(time.monotonic(), time_remaining())
        outcome = await outcome_of(model_infer(service, request, call))
        failed = isinstance(outcome, ServiceError)
        frames = service.metrics.stream_frames
        frames.labels(route=ROUTE, outcome="failed" if failed else "answered").inc()
        if isinstance(outcome, FATAL):
            raise outcome
        if isinstance(outcome, ServiceError):
            yield _refusal(service, request, outcome)
        else:
            yield ModelStreamInferResponse(infer_response=outcome)


async def _next(requests: AsyncIterator[ModelInferRequest]) -> ModelInferRequest | None:
    """The next request; None where the client sends no more."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            return await anext(requests, None)
    except TimeoutError:
        return None


def _refusal(
    service: DetectionService, request: ModelInferRequest, error: ServiceError
) -> ModelStreamInferResponse:
    """The error's text, with the id of the request that it is about."""
    service.metrics.rejected.labels(code=error.code).inc()
    about = ModelInferResponse(model_name=request.model_name, id=request.id)
    return ModelStreamInferResponse(error_message=error.detail, infer_response=about)
