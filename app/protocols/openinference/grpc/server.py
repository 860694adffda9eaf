"""The gRPC server on its own port, in the service's event loop: access, errors, request log, shutdown."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from app.errors import Internal, ServiceError
from app.protocols.openinference.grpc.methods import ADMIN, METHODS, OPEN, CallContext, Method
from app.protocols.openinference.grpc.proto.grpc_service_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)
from app.protocols.openinference.grpc.stream import ROUTE, SERVICE, STREAM, answers
from app.serving.service import DetectionService
from app.serving.streams import StreamSlots
from app.telemetry import tracing
from app.telemetry.logs import chosen_id, request_id
from app.telemetry.request_log import RequestRecord, record
from app.transport.access import check_admin, check_key, header_keys

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The gRPC status of an error, by its HTTP status."""

CALLS_PER_SLOT = 4  # concurrent calls for each slot of the queue: the others wait for admission

OPTIONS = (
    # A compressed message is inflated before its length is checked: a small one may fill all memory.
    ("grpc.compression_enabled_algorithms_bitset", 1),  # none but "identity"
    ("grpc.so_reuseport", 0),  # or a second server on the port would silently take half of the calls
)


async def listen(service: DetectionService, slots: StreamSlots, host: str, port: int) -> tuple[Any, int]:
    """Start the server; returns it and its port, which is any free one for 0. Raises OSError."""
    settings = service.settings
    server = grpc.aio.server(
        options=(("grpc.max_receive_message_length", settings.max_body_bytes), *OPTIONS),
        maximum_concurrent_rpcs=CALLS_PER_SLOT * settings.max_queue,
    )
    add_GRPCInferenceServiceServicer_to_server(_servicer(service, slots), server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(
            f"cannot listen for gRPC on {address}; choose another RCNN_HOST or RCNN_GRPC_PORT"
        ) from error
    await server.start()
    logging.getLogger(__name__).info("listening for gRPC on %s:%d", address.rpartition(":")[0], bound)
    return server, bound


def _servicer(service: DetectionService, slots: StreamSlots) -> GRPCInferenceServiceServicer:
    servicer = GRPCInferenceServiceServicer()
    for name, method in METHODS.items():
        setattr(servicer, name, _unary(service, name, method))
    setattr(servicer, STREAM, _stream(service, slots))
    return servicer


def _unary(
    service: DetectionService, name: str, method: Method
) -> Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]:
    async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
        async with _call(service, name, context) as started:
            return await method(service, request, CallContext(started, context.time_remaining()))

    return answer


def _stream(
    service: DetectionService, slots: StreamSlots
) -> Callable[[AsyncIterator[Any], grpc.aio.ServicerContext], AsyncIterator[Any]]:
    async def answer(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        async with _call(service, STREAM, context):
            with slots.hold(ROUTE):
                async for response in answers(service, requests, context.time_remaining):
                    yield response

    return answer


@asynccontextmanager
async def _call(
    service: DetectionService, name: str, context: grpc.aio.ServicerContext
) -> AsyncIterator[float]:
    """A call, from the check of its key to its record; yields when it began. An error becomes its status."""
    started = time.monotonic()
    sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    token = request_id.set(chosen_id(sent.get("x-request-id", "")))
    # Neither probes nor streams, which may stay open for days, have a span.
    span = tracing.begin(name, sent) if name not in (*OPEN, STREAM) else None
    status = tracing.GONE
    with tracing.as_current(span):
        try:
            context.set_trailing_metadata(tuple(_ids().items()))
            _check_access(service, name, header_keys(sent))
            yield started
            status = 200
        except ServiceError as error:
            status = error.status
            await _refuse(service, context, error)
        except Exception as error:  # the last resort of a call: its text is for the log only
            logging.getLogger(__name__).exception("unhandled error", exc_info=error)
            status = Internal.status
            detail = f"an error of the service; its log has the reason under {request_id.get()}"
            await _refuse(service, context, Internal(detail))
        finally:
            _record(service, name, status, time.monotonic() - started)
            request_id.reset(token)


def _check_access(service: DetectionService, name: str, keys: tuple[str, ...]) -> None:
    if name in ADMIN:
        check_admin(service, keys)
    elif name not in OPEN:
        check_key(service, keys)


async def _refuse(service: DetectionService, context: grpc.aio.ServicerContext, error: ServiceError) -> None:
    """End the call with the error's status; raises. Retry-After goes along as metadata, in seconds."""
    service.metrics.rejected.labels(code=error.code).inc()
    headers = {**_ids(), "rcnn-code": error.code, **error.headers()}
    trailing = tuple((key.lower(), value) for key, value in headers.items())
    await context.abort(CODES[error.status], error.detail, trailing)


def _ids() -> dict[str, str]:
    """The metadata of every response: the id of the call and, where it is traced, W3C's traceresponse."""
    return {"x-request-id": request_id.get(), **tracing.response_headers(tracing.current())}


def _record(service: DetectionService, name: str, status: int, seconds: float) -> None:
    attributes = {"rpc.system": "grpc", "rpc.method": name, "rcnn.request_id": request_id.get()}
    tracing.end_request(tracing.current(), f"{SERVICE}/{name}", status, attributes)
    record(service.metrics, RequestRecord("gRPC", f"/{SERVICE}/{name}", status, seconds, name in OPEN))
