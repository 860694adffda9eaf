"""Server reflection, from which grpcurl, Postman and other tools learn the services without a .proto.

grpcio-reflection makes the answers. It knows v1alpha; v1 has the same messages under another name. A call
needs a key as others do: gRPC collects its messages, and a stranger's must not take memory.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, aio

from app.errors import InvalidParameter, Overloaded
from app.protocols.openinference.grpc import health, messages
from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb

METHOD = "ServerReflectionInfo"
SERVICES = (SERVICE_NAME, "grpc.reflection.v1.ServerReflection")
ROUTE = f"/{SERVICES[-1]}/{METHOD}"  # of both, in metrics and log
MAX_BYTES = 4096  # of a request, which has a name in it
MAX_CALLS = 8  # open at a time: gRPC collects messages of any allowed length, which are then too long
RETRY_SECONDS = 1.0  # after which one may have ended
IDLE_SECONDS = 10.0  # without a request, then the call ends

Next = Callable[[], Awaitable[bytes | None]]
"""Reads the next message of a call; None at its end."""


class Reflection:
    """Answers about the services of the gRPC port, as `grpcurl list` and `describe` ask."""

    def __init__(self) -> None:
        pool = DescriptorPool()
        for file in (pb.DESCRIPTOR.serialized_pb, reflection_pb2.DESCRIPTOR.serialized_pb, _health_file()):
            pool.AddSerializedFile(file)
        listed = (messages.SERVICE, health.SERVICE, SERVICE_NAME)
        self._open = 0
        self._servicer = aio.ReflectionServicer(listed, pool=pool)

    @contextmanager
    def count(self) -> Iterator[None]:
        """Count a call as long as it is open; raises Overloaded where there are too many."""
        if self._open >= MAX_CALLS:
            raise Overloaded(
                f"{self._open} calls of server reflection are open, {MAX_CALLS} are allowed; try again in "
                f"{RETRY_SECONDS:.0f} s",
                RETRY_SECONDS,
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def answers(self, read: Next) -> AsyncGenerator[bytes, None]:
        """A response to each request of a call, until the client or its time ends it."""
        async for response in self._servicer.ServerReflectionInfo(_requests(read), None):
            yield cast(bytes, response.SerializeToString())


async def _requests(read: Next) -> AsyncIterator[Any]:
    while (data := await read()) is not None:
        if len(data) > MAX_BYTES:
            raise InvalidParameter(
                f"the message has {len(data)} bytes, {MAX_BYTES} are allowed; ask for the name of a service, "
                "a message or a file"
            )
        try:
            yield reflection_pb2.ServerReflectionRequest.FromString(data)
        except DecodeError as error:
            raise InvalidParameter("the message is not one of server reflection") from error


def _health_file() -> bytes:
    """The description of grpc.health.v1, which health.py speaks without its messages."""
    file = FileDescriptorProto(name="grpc/health/v1/health.proto", package="grpc.health.v1", syntax="proto3")
    once = FieldDescriptorProto.LABEL_OPTIONAL
    request = file.message_type.add(name="HealthCheckRequest")
    request.field.add(name="service", number=1, type=FieldDescriptorProto.TYPE_STRING, label=once)
    response = file.message_type.add(name="HealthCheckResponse")
    kind = ".grpc.health.v1.HealthCheckResponse.ServingStatus"
    response.field.add(
        name="status", number=1, type=FieldDescriptorProto.TYPE_ENUM, label=once, type_name=kind
    )
    states = response.enum_type.add(name="ServingStatus")
    for number, name in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")):
        states.value.add(name=name, number=number)
    service = file.service.add(name="Health")
    for name, streams in (("Check", False), ("Watch", True)):
        service.method.add(
            name=name,
            input_type=".grpc.health.v1.HealthCheckRequest",
            output_type=".grpc.health.v1.HealthCheckResponse",
            server_streaming=streams,
        )
    return cast(bytes, file.SerializeToString())
