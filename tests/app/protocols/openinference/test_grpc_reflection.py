"""Server reflection on the gRPC port, by the client of grpcio-reflection and by v1's name."""

import asyncio
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from app.protocols.openinference.grpc.reflection import MAX_BYTES, MAX_CALLS, METHOD, ROUTE, SERVICES
from tests.app.protocols.openinference.test_grpc import refusal
from tests.app.protocols.openinference.test_grpc_bounds import KEY, channel
from tests.support.served import Serve, Served

HEALTH, INFERENCE = "grpc.health.v1.Health", "inference.GRPCInferenceService"


def learned(port: int) -> tuple[list[str], set[str], str]:
    """What a client knows of the services: their names, the methods of one, the type of health's answer."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as connected:
        database = ProtoReflectionDescriptorDatabase(connected)
        pool = DescriptorPool(database)
        inference = pool.FindServiceByName(INFERENCE)
        check = pool.FindServiceByName(HEALTH).FindMethodByName("Check")
        names = sorted(database.get_services())
        return names, {method.name for method in inference.methods}, check.output_type.full_name


def ask(connected: Any, service: str, metadata: Any = (), **values: Any) -> Any:
    """A call with one request; its first response is `read`."""
    path = f"/{service}/{METHOD}"
    call = connected.stream_stream(
        path,
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    return call(iter([ServerReflectionRequest(**values)]), metadata=metadata, timeout=20)


async def test_a_client_learns_the_services(served: Served) -> None:
    async with channel(served) as (_, port):
        names, methods, answer = await asyncio.to_thread(learned, port)
    assert names == [HEALTH, SERVICES[0], INFERENCE]
    assert {"ModelInfer", "ModelStreamInfer", "ServerReady"} <= methods
    assert answer == "grpc.health.v1.HealthCheckResponse"


async def test_both_names_answer_whoever_has_a_key(serve: Serve) -> None:
    async with serve(api_keys="alpha") as served, channel(served) as (connected, _):
        for service in SERVICES:
            call = ask(connected, service, KEY, list_services="")
            listed = (await call.read()).list_services_response.service
            assert INFERENCE in [one.name for one in listed]
            assert await call.code() is grpc.StatusCode.OK
            error = await refusal(ask(connected, service, list_services="").read())
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert await served.metric("rcnn_requests_total", route=ROUTE, status="200") == len(SERVICES)


async def test_a_request_is_bounded_and_an_unknown_name_is_not_found(served: Served) -> None:
    async with channel(served) as (connected, _):
        unknown = await ask(connected, SERVICES[0], file_containing_symbol="no.Such").read()
        assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        long = ask(connected, SERVICES[0], file_by_filename="x" * MAX_BYTES)
        error = await refusal(long.read())
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(MAX_BYTES) in error.details()


async def test_only_so_many_calls_are_open_at_a_time(served: Served) -> None:
    """Each may send one message of any allowed length, which gRPC collects before it is refused."""
    async with channel(served) as (connected, _):
        path = f"/{SERVICES[0]}/{METHOD}"
        held = [connected.stream_stream(path)(timeout=20) for _ in range(MAX_CALLS)]
        for call in held:
            await call.write(ServerReflectionRequest(list_services="").SerializeToString())
            assert await call.read()
        error = await refusal(ask(connected, SERVICES[1], list_services="").read())
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await held[0].done_writing()
        assert await held[0].code() is grpc.StatusCode.OK
        assert await ask(connected, SERVICES[1], list_services="").read()
        for call in held:
            call.cancel()
