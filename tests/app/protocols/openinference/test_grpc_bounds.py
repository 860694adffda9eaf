"""What a gRPC call may hold: time, calls, fields and bytes; who is refused, and when."""

import asyncio
import gc
import logging
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from app.protocols.openinference.grpc.connections import STREAMS
from app.protocols.openinference.grpc.messages import SERVICE
from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from app.protocols.openinference.grpc.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from app.protocols.openinference.grpc.server import listen
from tests.app.protocols.openinference.test_grpc import ROUTE, STREAM, refusal, request
from tests.support.http2 import MAX_CONCURRENT_STREAMS, raw_calls
from tests.support.protocols import PNG
from tests.support.served import Serve, Served, eventually

SECONDS = 20.0  # in which a call must have ended, where the server has no bound
LIVE, READY = pb.ServerLiveRequest(), pb.ServerReadyRequest()
KEY = (("x-api-key", "alpha"),)
PIXELS = {"name": "images", "datatype": "UINT8", "shape": [1, 8, 12, 3]}


@asynccontextmanager
async def channel(served: Served) -> AsyncIterator[tuple[Any, int]]:
    """A connected channel to a gRPC server with the same service, and its port."""
    service = served.app.state.service
    server, port = await listen(service, served.app.state.stream_slots, "127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as connected:
            await GRPCInferenceServiceStub(connected).ServerLive(LIVE)
            yield connected, port
            served.detector.let_go()
    finally:
        await server.stop(None)


def headers_only(connected: Any, metadata: Any = ()) -> Any:
    """A ModelInfer that sends its headers and no message."""
    return connected.stream_unary(ROUTE)(metadata=metadata, timeout=SECONDS)


def value(served: Served, name: str, **labels: str) -> float:
    return served.app.state.service.metrics.registry.get_sample_value(name, labels) or 0.0


# time


async def test_a_call_without_a_message_ends_within_its_time(serve: Serve) -> None:
    async with serve(timeout_ms=200) as served, channel(served) as (connected, _):
        error = await refusal(headers_only(connected))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(tuple(error.trailing_metadata()))["rcnn-code"] == "deadline_exceeded"
        assert value(served, "rcnn_rejected_total", code="deadline_exceeded") == 1
        assert value(served, "rcnn_requests_total", route=ROUTE, status="504") == 1


@pytest.mark.parametrize(("route", "status"), [(ROUTE, b"4"), (STREAM, b"0")])
async def test_a_message_that_stops_in_the_middle_ends_its_call(
    serve: Serve, route: str, status: bytes
) -> None:
    async with serve(timeout_ms=200) as served, channel(served) as (_, port), raw_calls(port) as raw:
        number = raw.begin(route)
        raw.message(number, 1000, b"x" * 10)
        async with asyncio.timeout(SECONDS):
            assert b"\x0bgrpc-status\x01" + status in await raw.ended(number)
        assert value(served, "rcnn_streams", route=STREAM) == 0


async def test_an_idle_stream_ends(serve: Serve) -> None:
    async with serve(timeout_ms=500) as served, channel(served) as (connected, _):
        stream = GRPCInferenceServiceStub(connected).ModelStreamInfer(timeout=SECONDS)
        await stream.write(request(PNG))
        assert (await stream.read()).infer_response.outputs
        assert await stream.read() is grpc.aio.EOF
        assert value(served, "rcnn_streams", route=STREAM) == 0


async def test_a_stream_whose_client_does_not_read_ends(serve: Serve) -> None:
    async with (
        serve(timeout_ms=500) as served,
        channel(served) as (_, port),
        raw_calls(port, window=0) as raw,
    ):
        message = request(PNG).SerializeToString()
        raw.message(raw.begin(STREAM), len(message), message)
        await eventually(
            lambda: value(served, "rcnn_requests_total", route=STREAM, status="499") == 1,
            "the stream is recorded as left",
        )
        assert value(served, "rcnn_streams", route=STREAM) == 0


# order


async def test_a_call_without_a_key_is_refused_before_its_message(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(api_keys="alpha", admin_keys="chief") as served, channel(served) as (connected, _):
        assert (await refusal(headers_only(connected))).code() is grpc.StatusCode.UNAUTHENTICATED
        load = connected.stream_unary(f"/{SERVICE}/RepositoryModelLoad")(metadata=KEY)
        assert (await refusal(load)).code() is grpc.StatusCode.UNAUTHENTICATED
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_full_service_refuses_before_the_message(serve: Serve) -> None:
    async with serve(max_queue=1) as served, channel(served) as (connected, _):
        served.detector.free.clear()
        first = GRPCInferenceServiceStub(connected).ModelInfer(request(PNG))
        await eventually(lambda: len(served.detector.batches) == 1, "the first call is on the device")
        assert (await refusal(headers_only(connected))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        served.detector.free.set()
        await first


async def test_the_priority_of_the_metadata_is_that_of_the_request(served: Served) -> None:
    async with channel(served) as (connected, _):
        stub = GRPCInferenceServiceStub(connected)
        await stub.ModelInfer(request(PNG), metadata=(("x-priority", "2"),))
        assert value(served, "rcnn_priority_requests_total", priority="2", outcome="accepted") == 1
        wrong = (("x-priority", "high"),)
        error = await refusal(headers_only(connected, wrong))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await stub.ServerReady(READY, metadata=wrong)).ready


# calls


async def test_the_bound_on_calls_holds_after_refusals_and_probes_are_answered(serve: Serve) -> None:
    async with serve(max_queue=1, api_keys="alpha") as served, channel(served) as (connected, _):
        stub = GRPCInferenceServiceStub(connected)
        held = [headers_only(connected, KEY) for _ in range(4)]
        for _ in range(10):
            error = await refusal(headers_only(connected, KEY))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            sent = dict(tuple(error.trailing_metadata()))
            assert (sent["rcnn-code"], sent["retry-after"], sent["grpc-retry-pushback-ms"]) == (
                *("overloaded", "1", "1000"),
            )
            assert (await refusal(headers_only(connected))).code() is grpc.StatusCode.UNAUTHENTICATED
            assert (await stub.ServerLive(LIVE)).live
            assert (await stub.ServerReady(READY)).ready
        assert value(served, "rcnn_rejected_total", code="overloaded") == 10
        held[0].cancel()
        await eventually(
            lambda: value(served, "rcnn_requests_total", route=ROUTE, status="499") == 1, "a call ends"
        )
        assert (await stub.ModelInfer(request(PNG), metadata=KEY)).outputs
        held[0] = headers_only(connected, KEY)
        assert (await refusal(headers_only(connected, KEY))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_connection_has_a_bound_of_its_own(served: Served) -> None:
    async with channel(served) as (_, port), raw_calls(port) as raw:
        assert (await raw.settings())[MAX_CONCURRENT_STREAMS] == STREAMS


# fields

MANY: dict[str, dict[str, Any]] = {
    "inputs": {"inputs": [{}] * 3},
    "a million inputs": {"inputs": [{}] * 1_000_000},
    "outputs": {"outputs": [{}] * 9},
    "parameters": {"parameters": {str(n): {"bool_param": True} for n in range(65)}},
    "many parameters": {"parameters": {str(n): {"bool_param": True} for n in range(1000)}},
    "raw contents": {"raw_input_contents": [b""] * 2000},
    "dimensions": {"inputs": [{"shape": [1] * 2000}]},
    "elements": {"inputs": [{"contents": {"bytes_contents": [b""] * 2000}}]},
    "a long text": {"parameters": {"classes": {"string_param": "a," * 70_000}}},
    "a long name": {"inputs": [{"name": "a" * 140_000}]},
    "parameters of an input": {"inputs": [{"parameters": {str(n): {} for n in range(2000)}}]},
    "parameters of an output": {"outputs": [{"parameters": {str(n): {} for n in range(2000)}}]},
}


async def test_more_fields_than_a_request_needs_are_refused(served: Served) -> None:
    async with channel(served) as (connected, _):
        stub = GRPCInferenceServiceStub(connected)
        for name, fields in MANY.items():
            error = await refusal(stub.ModelInfer(pb.ModelInferRequest(model_name="fake", **fields)))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, name
            assert "at most" in error.details() or "more than" in error.details(), name
        assert served.detector.prepared == []


async def test_a_message_that_is_none_of_the_method_is_an_invalid_argument(served: Served) -> None:
    async with channel(served) as (connected, _):
        call = connected.unary_unary(ROUTE)
        for wrong in (b"\xff" * 20, b"\x0a\x05a", b"\x0b\x0b", b"\x2a\x04\x0a\xff\xff\xff"):
            error = await refusal(call(wrong))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, wrong
            assert "not one of this method" in error.details()


async def test_listed_numbers_are_one_byte_each(served: Served) -> None:
    async with channel(served) as (connected, _):
        stub = GRPCInferenceServiceStub(connected)
        numbers = [*range(256), *range(31, -1, -1)]
        tensor = {**PIXELS, "contents": {"uint_contents": numbers}}
        await stub.ModelInfer(pb.ModelInferRequest(model_name="fake", inputs=[tensor]))
        assert served.detector.rows == [bytes(range(36))]
        for wrong in (256, 384, 70_000, 2**32 - 1):
            tensor = {**PIXELS, "contents": {"uint_contents": [*numbers[:-1], wrong]}}
            error = await refusal(stub.ModelInfer(pb.ModelInferRequest(model_name="fake", inputs=[tensor])))
            assert "from 0 to 255" in error.details()


# bytes


async def test_no_message_is_kept_after_its_call(served: Served) -> None:
    """In a cycle of references it would stay until a garbage collection, which comes once in minutes."""
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    wrong = pb.ModelInferRequest(model_name="fake", inputs=[tensor], raw_input_contents=[b"\xff" * 10**6])
    async with channel(served) as (connected, _):
        stub = GRPCInferenceServiceStub(connected)
        await refusal(stub.ModelInfer(wrong))
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(3):
                await refusal(stub.ModelInfer(wrong))
                await stub.ModelInfer(request(PNG + bytes(10**6)))
            assert tracemalloc.get_traced_memory()[0] < 10**6
        finally:
            tracemalloc.stop()
            gc.enable()


async def test_messages_and_http_bodies_are_in_one_account(serve: Serve) -> None:
    file = PNG + bytes(600_000)
    async with serve(max_queue_bytes=2**20) as served, channel(served) as (connected, _):
        stub = GRPCInferenceServiceStub(connected)
        served.detector.free.clear()
        headers = {"Content-Type": "image/png"}
        first = asyncio.create_task(served.client.post("/detect", content=file, headers=headers))
        await eventually(lambda: len(served.detector.batches) == 1, "the first request is on the device")
        error = await refusal(stub.ModelInfer(request(file)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "bodies together" in error.details()
        served.detector.free.set()
        assert (await first).status_code == 200
        assert (await stub.ModelInfer(request(file))).outputs
        assert value(served, "rcnn_body_bytes", sender="user") == 0


async def test_messages_are_received_only_so_many_at_a_time(serve: Serve) -> None:
    """As many as may be in memory together if each is as long as it can be: here one."""
    async with (
        serve(max_queue_bytes=2**20, max_body_bytes=2**20) as served,
        channel(served) as (connected, _),
    ):
        stub = GRPCInferenceServiceStub(connected)
        async with AsyncExitStack() as stack:
            first = headers_only(connected)
            stack.callback(first.cancel)
            error = await refusal(stub.ModelInfer(request(PNG), timeout=1))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert served.detector.prepared == []
        assert (await stub.ModelInfer(request(PNG))).outputs
