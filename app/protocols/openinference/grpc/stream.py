"""ModelStreamInfer: many requests in one call, answered in order; one that fails is told of its error."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from app.errors import ServiceError
from app.protocols.openinference.grpc.messages import SERVICE, messages
from app.protocols.openinference.grpc.methods import CallContext, model_infer
from app.serving.service import DetectionService
from app.serving.streams import FATAL, outcome_of

STREAM = "ModelStreamInfer"
IDLE_SECONDS = 60.0  # without a request: the place is for somebody who has one


async def answers(
    service: DetectionService, requests: AsyncIterator[Any], patience: Callable[[], float | None]
) -> AsyncIterator[Any]:
    """The answers; a request is read when the one before is answered. Raises what no later one escapes.

    `patience`: how many seconds the caller still waits for the call.
    """
    while (request := await _next(requests)) is not None:
        outcome = await outcome_of(model_infer(service, request, CallContext(time.monotonic(), patience())))
        failed = isinstance(outcome, ServiceError)
        frames = service.metrics.stream_frames
        frames.labels(route=f"/{SERVICE}/{STREAM}", outcome="failed" if failed else "answered").inc()
        if isinstance(outcome, FATAL):
            raise outcome
        yield _refusal(service, request, outcome) if isinstance(outcome, ServiceError) else _answer(outcome)


async def _next(requests: AsyncIterator[Any]) -> Any:
    """The next request; None where the client sends no more."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            return await anext(requests, None)
    except TimeoutError:
        return None


def _answer(response: Any) -> Any:
    return messages().ModelStreamInferResponse(infer_response=response)


def _refusal(service: DetectionService, request: Any, error: ServiceError) -> Any:
    """The error's text, with the id of the request that it is about."""
    service.metrics.rejected.labels(code=error.code).inc()
    about = messages().ModelInferResponse(model_name=request.model_name, id=request.id)
    return messages().ModelStreamInferResponse(error_message=error.detail, infer_response=about)
