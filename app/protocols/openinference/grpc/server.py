"""The gRPC server on its own port, in the service's event loop: keys, errors, metrics, an orderly end."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from app.errors import Internal, ServiceError
from app.protocols.openinference.grpc.messages import SERVICE, messages
from app.protocols.openinference.grpc.methods import ADMIN, METHODS, OPEN, CallContext, Method
from app.protocols.openinference.grpc.stream import STREAM, answers
from app.serving.service import DetectionService
from app.serving.streams import StreamSlots
from app.telemetry import tracing
from app.telemetry.logs import chosen_id, request_id
from app.transport.access import check_admin, check_key

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
"""What an error of each HTTP status is called here."""

GONE = 499  # as in app/transport/middleware.py: the client left, or its time ran out
CALLS_PER_PLACE = 4  # calls at a time for each place of the queue: the others wait at the door

access = logging.getLogger("app.access")


async def listen(
    service: DetectionService,
    slots: StreamSlots,
    host: str,
    port: int,
    tracer: tracing.Tracer | None = None,
) -> tuple[Any, int]:
    """Start the server; with the port it has, which is a free one for 0. Raises OSError."""
    settings = service.settings
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            # A compressed message is inflated before its length is looked at: a small one may fill all memory
            ("grpc.compression_enabled_algorithms_bitset", 1),  # none but "identity"
            ("grpc.so_reuseport", 0),  # or a second server would take half of the calls, in silence
        ),
        maximum_concurrent_rpcs=CALLS_PER_PLACE * settings.max_queue,
    )
    handlers = {name: _handler(service, name, method, tracer) for name, method in METHODS.items()}
    handlers[STREAM] = _stream_handler(service, slots)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
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


def _handler(service: DetectionService, name: str, method: Method, tracer: tracing.Tracer | None) -> Any:
    kinds = vars(messages())
    return grpc.unary_unary_rpc_method_handler(
        _answering(service, name, method, tracer),
        request_deserializer=kinds[f"{name}Request"].FromString,
        response_serializer=kinds[f"{name}Response"].SerializeToString,
    )


def _stream_handler(service: DetectionService, slots: StreamSlots) -> Any:
    async def answer(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async with _call(service, STREAM, context, None):
            with slots.hold(f"/{SERVICE}/{STREAM}"):
                async for response in answers(service, requests, context.time_remaining):
                    yield response

    return grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=messages().ModelInferRequest.FromString,
        response_serializer=messages().ModelStreamInferResponse.SerializeToString,
    )


def _answering(
    service: DetectionService, name: str, method: Method, tracer: tracing.Tracer | None
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: Any) -> Any:
        async with _call(service, name, context, tracer) as started:
            return await method(service, request, CallContext(started, context.time_remaining()))

    return answer


@asynccontextmanager
async def _call(
    service: DetectionService, name: str, context: Any, tracer: tracing.Tracer | None
) -> AsyncIterator[float]:
    """A call from its key to its record, with when it began; an error ends it with the error's status."""
    started = time.monotonic()
    sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    token = request_id.set(chosen_id(sent.get("x-request-id", "")))
    span = tracer.begin(name, sent) if tracer is not None and name not in OPEN else None
    span_token = tracing.current.set(span)
    context.set_trailing_metadata(tuple(_ids().items()))
    status = GONE
    try:
        if name in ADMIN:
            check_admin(service, _keys(sent))
        elif name not in OPEN:
            check_key(service, _keys(sent))
        yield started
        status = 200
    except ServiceError as error:
        status = error.status
        await _refuse(service, context, error)
    except Exception as error:  # what nobody caught: its text is for the log alone
        logging.getLogger(__name__).exception("unhandled error", exc_info=error)
        status = Internal.status
        told = f"an error of the service; its log has the reason under {request_id.get()}"
        await _refuse(service, context, Internal(told))
    finally:
        _record(service, name, status, time.monotonic() - started)
        described = {"rpc.system": "grpc", "rpc.method": name, "rcnn.request_id": request_id.get()}
        tracing.answered(span, f"{SERVICE}/{name}", status, described)
        tracing.current.reset(span_token)
        request_id.reset(token)


async def _refuse(service: DetectionService, context: Any, error: ServiceError) -> None:
    """End the call with the error's status; raises. Retry-After goes along as metadata, in seconds."""
    service.metrics.rejected.labels(code=error.code).inc()
    headers = {**_ids(), "rcnn-code": error.code, **error.headers()}
    trailing = tuple((key.lower(), value) for key, value in headers.items())
    await context.abort(CODES[error.status], error.detail, trailing)


def _ids() -> dict[str, str]:
    """What the answer carries: the id of the call, and where it is traced W3C's traceresponse."""
    span = tracing.current.get()
    return {"x-request-id": request_id.get()} | ({} if span is None else {"traceresponse": span.traceparent})


def _keys(sent: dict[str, str]) -> list[str]:
    scheme, _, token = sent.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return [key for key in (bearer, sent.get("x-api-key", "")) if key]


def _record(service: DetectionService, name: str, status: int, seconds: float) -> None:
    route = f"/{SERVICE}/{name}"
    service.metrics.requests.labels(route=route, status=str(status)).inc()
    service.metrics.request_duration.labels(route=route).observe(seconds)
    fields = {"method": "gRPC", "route": route, "status": status, "ms": round(seconds * 1e3, 1)}
    level = logging.DEBUG if name in OPEN else logging.INFO
    access.log(level, "%(method)s %(route)s %(status)d %(ms).1f ms", fields, extra={"fields": fields})
