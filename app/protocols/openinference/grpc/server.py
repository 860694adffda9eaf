"""The gRPC server on its own port, in the service's event loop: access, errors, request log, shutdown."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, nullcontext
from dataclasses import replace
from typing import Any, TypeVar, cast
from urllib.parse import unquote

import grpc

from app.errors import Internal, ServiceError
from app.protocols.openinference.grpc.calls import CallContext, OpenCalls, forget_frames
from app.protocols.openinference.grpc.connections import OPTIONS
from app.protocols.openinference.grpc.health import health_handler
from app.protocols.openinference.grpc.messages import SERVICE, parse, request_class
from app.protocols.openinference.grpc.methods import ADMIN, ADMITTED, METHODS, OPEN, Method
from app.protocols.openinference.grpc.reflection import IDLE_SECONDS, METHOD, SERVICES, Reflection
from app.protocols.openinference.grpc.reflection import ROUTE as REFLECTION_ROUTE
from app.protocols.openinference.grpc.stream import ROUTE, STREAM, answers
from app.protocols.openinference.grpc.tls import server_credentials
from app.protocols.openinference.shared_memory import SharedMemory, for_client
from app.serving.service import DetectionService
from app.serving.streams import StreamSlots
from app.telemetry import tracing
from app.telemetry.logs import chosen_id, request_id
from app.telemetry.request_log import RequestRecord, counting_work, record
from app.transport.access import check_admin, check_key, header_keys
from app.transport.query import PRIORITY_HEADER, parse_priority

R = TypeVar("R")

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


async def listen(
    service: DetectionService, slots: StreamSlots, host: str, port: int, memory: SharedMemory | None = None
) -> tuple[Any, int]:
    """Start the server; returns it and its port, which is any free one for 0. Raises OSError."""
    # A longer message is refused by the length before it: none of it is collected.
    longest = ("grpc.max_receive_message_length", service.settings.max_body_bytes)
    server = grpc.aio.server(options=(longest, *OPTIONS))
    calls = OpenCalls(service, memory)
    inference = grpc.method_handlers_generic_handler(SERVICE, _handlers(service, calls, slots))
    server.add_generic_rpc_handlers((inference, health_handler(lambda: service.ready)))
    server.add_generic_rpc_handlers(_reflection_handlers(service, calls))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    credentials = server_credentials(service.settings)
    try:
        secure = credentials is not None
        bound = server.add_secure_port(address, credentials) if secure else server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(
            f"cannot listen for gRPC on {address}; choose another RCNN_HOST or RCNN_GRPC_PORT"
        ) from error
    await server.start()
    logging.getLogger(__name__).info("listening for gRPC on %s:%d", address.rpartition(":")[0], bound)
    return server, bound


def _handlers(service: DetectionService, calls: OpenCalls, slots: StreamSlots) -> dict[str, Any]:
    """A handler for each method, in bytes; all take streams, so that they begin with the headers of a call.

    On the wire a request alone and a stream of one are the same.
    """
    handlers = {
        name: grpc.stream_unary_rpc_method_handler(_unary(service, calls, name, method))
        for name, method in METHODS.items()
    }
    return handlers | {STREAM: grpc.stream_stream_rpc_method_handler(_stream(service, calls, slots))}


def _unary(
    service: DetectionService, calls: OpenCalls, name: str, method: Method
) -> Callable[[object, grpc.aio.ServicerContext], Awaitable[bytes | None]]:
    message = request_class(name)

    async def respond(context: grpc.aio.ServicerContext, call: CallContext) -> bytes:
        if name in ADMITTED:
            await calls.admit(call)
        data = await calls.receive(context.read, call)
        call = replace(call, nbytes=len(data))
        with calls.hold(call.nbytes):
            request = await parse(data, message)
            del data  # its fields are in `request`
            response = await method(service, request, call)
        return cast(bytes, response.SerializeToString())

    async def respond_unread(context: grpc.aio.ServicerContext, call: CallContext) -> bytes:
        """To a message without fields."""
        return cast(bytes, (await method(service, message(), call)).SerializeToString())

    work = respond_unread if name in OPEN else respond

    async def answer(requests: object, context: grpc.aio.ServicerContext) -> bytes | None:
        return await _serve(service, calls, name, context, work)

    return answer


def _stream(
    service: DetectionService, calls: OpenCalls, slots: StreamSlots
) -> Callable[[object, grpc.aio.ServicerContext], Awaitable[None]]:
    async def respond(context: grpc.aio.ServicerContext, call: CallContext) -> None:
        responses = answers(service, calls, context.read, context.time_remaining, call)
        with slots.hold(ROUTE):
            async with aclosing(responses):
                async for response in responses:
                    await calls.sent(context.write(response.SerializeToString()))

    async def answer(requests: object, context: grpc.aio.ServicerContext) -> None:
        await _serve(service, calls, STREAM, context, respond)

    return answer


def _reflection_handlers(service: DetectionService, calls: OpenCalls) -> list[Any]:
    """The handlers of server reflection, under each of its names."""
    reflection = Reflection()

    async def respond(context: grpc.aio.ServicerContext, call: CallContext) -> None:
        responses = reflection.answers(lambda: calls.receive_next(context.read, IDLE_SECONDS))
        with reflection.count():
            async with aclosing(responses):
                async for response in responses:
                    await calls.sent(context.write(response))

    async def answer(requests: object, context: grpc.aio.ServicerContext) -> None:
        await _serve(service, calls, METHOD, context, respond)

    methods = {METHOD: grpc.stream_stream_rpc_method_handler(answer)}
    return [grpc.method_handlers_generic_handler(name, methods) for name in SERVICES]


async def _serve(
    service: DetectionService,
    calls: OpenCalls,
    name: str,
    context: grpc.aio.ServicerContext,
    respond: Callable[[grpc.aio.ServicerContext, CallContext], Awaitable[R]],
) -> R | None:
    """A call, from the check of its key to its record; its response. An error becomes its status."""
    started = time.monotonic()
    sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    token = request_id.set(chosen_id(sent.get("x-request-id", "")))
    # Neither probes nor streams, which may stay open for days, have a span.
    span = tracing.begin(name, sent) if name not in (*OPEN, STREAM, METHOD) else None
    status, response = tracing.GONE, None
    with tracing.as_current(span), counting_work() as work:
        try:
            context.set_trailing_metadata(tuple(_ids().items()))
            _check_access(service, name, header_keys(sent))
            with nullcontext() if name in OPEN else calls.count():
                priority = None if name in OPEN else _priority(sent)
                memory = for_client(calls.memory, _address(context.peer()), sent)
                call = CallContext(started, context.time_remaining(), priority, memory=memory)
                response = await respond(context, call)
            status = 200
        except ServiceError as error:
            status = await _refuse(service, context, error)
        except Exception as error:  # the last resort of a call: its text is for the log only
            logging.getLogger(__name__).exception("unhandled error", exc_info=error)
            detail = f"an error of the service; its log has the reason under {request_id.get()}"
            status = await _refuse(service, context, Internal(detail))
        finally:
            seconds, client = time.monotonic() - started, _address(context.peer())
            route = REFLECTION_ROUTE if name == METHOD else f"/{SERVICE}/{name}"
            request = RequestRecord("gRPC", route, status, seconds, name in OPEN, work, client)
            _record(service, name, request)
            request_id.reset(token)
    return response


def _check_access(service: DetectionService, name: str, keys: tuple[str, ...]) -> None:
    if name in ADMIN:
        check_admin(service, keys)
    elif name not in OPEN:
        check_key(service, keys)


def _priority(sent: Mapping[str, str]) -> int | None:
    """The priority in the metadata, as in the header of the same name."""
    text = sent.get(PRIORITY_HEADER.lower())
    return None if text is None else parse_priority(text)


async def _refuse(service: DetectionService, context: grpc.aio.ServicerContext, error: ServiceError) -> int:
    """End the call with the error's status; the status that its record gets.

    When to try again goes along as metadata: Retry-After in seconds, and gRPC's own for clients that retry.
    """
    forget_frames(error)
    headers = {**_ids(), "rcnn-code": error.code, **error.headers()}
    if "Retry-After" in headers:
        headers["grpc-retry-pushback-ms"] = str(int(headers["Retry-After"]) * 1000)
    trailing = tuple((key.lower(), value) for key, value in headers.items())
    try:
        await context.abort(CODES[error.status], error.detail, trailing)
    except grpc.aio.AbortError as ended:
        forget_frames(ended)  # gRPC keeps it with the call
    except grpc.aio.InternalError:
        return tracing.GONE  # gRPC has ended it already, as for a message that is too long
    service.metrics.rejected.labels(code=error.code).inc()
    return error.status


def _ids() -> dict[str, str]:
    """The metadata of every response: the id of the call and, where it is traced, W3C's traceresponse."""
    return {"x-request-id": request_id.get(), **tracing.response_headers(tracing.current())}


def _address(peer: str) -> str:
    """The address in gRPC's name of a client, such as `ipv4:192.0.2.1:50000` or `ipv6:%5B::1%5D:50000`."""
    return unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]")


def _record(service: DetectionService, name: str, request: RequestRecord) -> None:
    attributes = {"rpc.system": "grpc", "rpc.method": name, "rcnn.request_id": request_id.get()}
    tracing.end_request(tracing.current(), f"{SERVICE}/{name}", request.status, attributes)
    record(service.metrics, request)
