"""The gRPC server beside the app: keys, errors, deadlines, cancellation, metrics, drain, and its messages."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from app.main import create_app
from app.protocols.openinference.grpc.messages import messages
from app.protocols.openinference.grpc.server import listen
from app.settings.settings import Settings
from app.telemetry.tracing import Tracer
from tests.conftest import Program, Serve, Served, eventually
from tests.support.fakes import FakeDetector, picture
from tests.support.protocols import PNG

ROUTE = "/inference.GRPCInferenceService/ModelInfer"


def request(*files: bytes, **others: Any) -> Any:
    """A request as tritonclient writes it, with its contents in the tensor itself."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="image", datatype="BYTES", shape=[len(files)], contents={"bytes_contents": files}
    )
    return service_pb2.ModelInferRequest(model_name="fake", inputs=[tensor], **others)


@asynccontextmanager
async def calls(served: Served, tracer: Tracer | None = None) -> AsyncIterator[Any]:
    """The published stub, of a gRPC server before the same service."""
    server, port = await listen(
        served.app.state.service, served.app.state.stream_slots, "127.0.0.1", 0, tracer
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield service_pb2_grpc.GRPCInferenceServiceStub(channel)
            served.detector.let_go()
    finally:
        await server.stop(None)


async def refusal(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_contents_in_the_tensor_are_read_too(served: Served) -> None:
    async with calls(served) as stub:
        answer = await stub.ModelInfer(request(PNG, id="7"))
        assert (answer.id, answer.model_name, answer.model_version) == ("7", "fake", "1")
        assert np.frombuffer(answer.raw_output_contents[1], np.int64).tolist() == [1, 2]
        tensor = service_pb2.ModelInferRequest.InferInputTensor(
            name="images", datatype="UINT8", shape=[1, 2, 2, 3], contents={"uint_contents": range(12)}
        )
        await stub.ModelInfer(service_pb2.ModelInferRequest(model_name="fake", inputs=[tensor]))
        assert served.detector.rows[-1] == bytes(range(6))


async def test_calls_are_counted_and_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    async with calls(served) as stub:
        with caplog.at_level(logging.INFO):
            call = stub.ModelInfer(request(PNG), metadata=(("x-request-id", "mine"),))
            await call
            assert ("x-request-id", "mine") in tuple(await call.trailing_metadata())
            await stub.ServerReady(service_pb2.ServerReadyRequest())
        assert await served.metric("rcnn_requests_total", route=ROUTE, status="200") == 1
        assert await served.metric("rcnn_request_duration_seconds_count", route=ROUTE) == 1
        [line] = [record for record in caplog.records if record.name == "app.access"]
        assert line.getMessage().startswith(f"gRPC {ROUTE} 200")


WRONG: dict[str, Any] = {
    "no input": service_pb2.ModelInferRequest(model_name="fake"),
    "raw contents for nothing": request(PNG, raw_input_contents=[b"", b""]),
    "an element that does not end": request(PNG, raw_input_contents=[b"\x09\x00\x00\x00x"]),
    "an unknown parameter": request(PNG, parameters={"x": {"int64_param": 1}}),
    "another output": request(PNG, outputs=[{"name": "masks"}]),
    "classification": request(
        PNG, outputs=[{"name": "scores", "parameters": {"classification": {"int64_param": 1}}}]
    ),
    "a negative shape": service_pb2.ModelInferRequest(
        model_name="fake", inputs=[{"name": "image", "datatype": "BYTES", "shape": [-1, -1]}]
    ),
    "shared memory": service_pb2.ModelInferRequest(
        model_name="fake",
        inputs=[
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [1],
                "parameters": {"shared_memory_region": {"string_param": "a"}},
            }
        ],
    ),
    "no image": request(b"no image"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_a_wrong_request_is_an_invalid_argument(served: Served, wrong: Any) -> None:
    async with calls(served) as stub:
        error = await refusal(stub.ModelInfer(wrong))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details()
        assert "rcnn-code" in dict(tuple(error.trailing_metadata()))
        assert served.detector.prepared == []


async def test_keys_are_asked_for(serve: Serve) -> None:
    async with serve(api_keys="alpha,beta") as served, calls(served) as stub:
        for metadata in ((), (("authorization", "Bearer a"),), (("authorization", "Basic alpha"),)):
            error = await refusal(stub.ModelInfer(request(PNG), metadata=metadata))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        refused = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="fake"))
        assert (await refusal(refused)).code() is grpc.StatusCode.UNAUTHENTICATED
        for metadata in ((("authorization", "Bearer beta"),), (("x-api-key", "alpha"),)):
            await stub.ModelInfer(request(PNG), metadata=metadata)
        assert (await stub.ServerReady(service_pb2.ServerReadyRequest())).ready


async def test_before_the_model_is_ready_calls_are_told_to_come_back(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served, calls(served) as stub:
        error = await refusal(stub.ModelInfer(request(PNG)))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert int(dict(tuple(error.trailing_metadata()))["retry-after"]) >= 1
        assert (await refusal(stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="fake")))).code() is (
            grpc.StatusCode.UNAVAILABLE
        )
        assert not (await stub.ModelReady(service_pb2.ModelReadyRequest(name="fake"))).ready
        assert not (await stub.ServerReady(service_pb2.ServerReadyRequest())).ready
        assert (await stub.ServerLive(service_pb2.ServerLiveRequest())).live
        detector.warm.set()
        await served.ready()
        assert (await stub.ModelReady(service_pb2.ModelReadyRequest(name="fake"))).ready


async def test_a_full_service_refuses(serve: Serve) -> None:
    async with serve(max_queue=1) as served, calls(served) as stub:
        served.detector.free.clear()
        first = stub.ModelInfer(request(PNG))
        await eventually(lambda: len(served.detector.batches) == 1, "the first call is on the device")
        error = await refusal(stub.ModelInfer(request(PNG)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await served.metric("rcnn_rejected_total", code="overloaded") == 1
        served.detector.free.set()
        await first


async def _waiting(served: Served, stub: Any, seconds: float | None = None) -> tuple[Any, Any]:
    """A call on the device, and one that waits behind it."""
    served.detector.free.clear()
    first = stub.ModelInfer(request(PNG))
    await eventually(lambda: len(served.detector.batches) == 1, "the first call is on the device")
    second = stub.ModelInfer(request(picture(31, 33)), timeout=seconds)
    await eventually(lambda: served.app.state.service.queue_depth == 1, "the second call waits")
    return first, second


async def test_a_cancelled_call_never_reaches_the_detector(served: Served) -> None:
    async with calls(served) as stub:
        first, second = await _waiting(served, stub)
        second.cancel()
        await eventually(lambda: served.app.state.service.queue_depth == 0, "the second call is dropped")
        served.detector.free.set()
        await first
        assert (31, 33) not in served.detector.reached
        assert await served.metric("rcnn_cancelled_total") == 1
        assert await served.metric("rcnn_requests_total", route=ROUTE, status="499") == 1
        assert await served.metric("rcnn_in_flight") == 0


async def test_a_call_whose_deadline_passes_never_reaches_the_detector(served: Served) -> None:
    async with calls(served) as stub:
        first, second = await _waiting(served, stub, seconds=2)
        assert (await refusal(second)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: served.app.state.service.queue_depth == 0, "the second call is dropped")
        served.detector.free.set()
        await first
        assert (31, 33) not in served.detector.reached


async def test_the_parameter_timeout_is_a_deadline_too(served: Served) -> None:
    served.detector.free.clear()
    async with calls(served) as stub:
        given = request(PNG, parameters={"timeout": {"int64_param": 100_000}})
        error = await refusal(stub.ModelInfer(given))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await served.metric("rcnn_rejected_total", code="deadline_exceeded") == 1


async def test_an_error_of_ours_is_told_without_its_text(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.detector.poison = lambda job: RuntimeError("SECRET")
    async with calls(served) as stub:
        with caplog.at_level(logging.ERROR):
            error = await refusal(stub.ModelInfer(request(PNG)))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "SECRET" not in error.details()
        assert any("SECRET" in str(record.exc_info) for record in caplog.records)
        assert await served.metric("rcnn_rejected_total", code="internal") == 1


async def test_a_compressed_message_is_refused_unread(served: Served) -> None:
    """gRPC inflates a message before it looks at its length."""
    async with calls(served) as stub:
        call = stub.ModelInfer(request(PNG), compression=grpc.Compression.Gzip)
        assert (await refusal(call)).code() is grpc.StatusCode.UNIMPLEMENTED


# streams

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


async def test_a_stream_answers_each_request_in_order_and_goes_on_after_a_fault(served: Served) -> None:
    async def requests() -> AsyncIterator[Any]:
        for number, file in enumerate((PNG, b"no image", PNG)):
            yield request(file, id=str(number))

    async with calls(served) as stub:
        one, two, three = [answer async for answer in stub.ModelStreamInfer(requests())]
        assert [answer.infer_response.id for answer in (one, two, three)] == ["0", "1", "2"]
        assert not one.error_message
        assert one.infer_response.raw_output_contents == three.infer_response.raw_output_contents
        assert len(one.infer_response.outputs) == 4
        assert "known format" in two.error_message
        assert not two.infer_response.outputs
        assert await served.metric("rcnn_stream_frames_total", route=STREAM, outcome="answered") == 2
        assert await served.metric("rcnn_stream_frames_total", route=STREAM, outcome="failed") == 1
        assert await served.metric("rcnn_rejected_total", code="invalid_image") == 1
        assert await served.metric("rcnn_requests_total", route=STREAM, status="200") == 1


async def test_a_stream_needs_a_key_and_a_place(serve: Serve) -> None:
    async with serve(api_keys="alpha", max_streams=1) as served, calls(served) as stub:
        error = await refusal(stub.ModelStreamInfer(iter([request(PNG)])).read())
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        key = (("x-api-key", "alpha"),)
        held = stub.ModelStreamInfer(metadata=key)
        await held.write(request(PNG))
        assert (await held.read()).infer_response.outputs
        error = await refusal(stub.ModelStreamInfer(iter([request(PNG)]), metadata=key).read())
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await held.done_writing()
        assert await held.read() is grpc.aio.EOF
        assert await served.metric("rcnn_streams", route=STREAM) == 0


async def test_who_leaves_a_stream_ends_its_work(served: Served) -> None:
    async with calls(served) as stub:
        served.detector.free.clear()
        first = stub.ModelInfer(request(PNG))
        await eventually(lambda: len(served.detector.batches) == 1, "the first call is on the device")
        stream = stub.ModelStreamInfer(iter([request(picture(31, 33))]))
        await eventually(lambda: served.app.state.service.queue_depth == 1, "the stream's request waits")
        stream.cancel()
        await eventually(lambda: served.app.state.service.queue_depth == 0, "it is dropped")
        served.detector.free.set()
        await first
        assert (31, 33) not in served.detector.reached
        assert await served.metric("rcnn_streams", route=STREAM) == 0


async def test_a_stream_ends_when_the_service_does(served: Served) -> None:
    async with calls(served) as stub:
        stream = stub.ModelStreamInfer()
        await stream.write(request(PNG))
        assert (await stream.read()).infer_response.outputs
        await served.app.state.service.close()
        await stream.write(request(PNG))
        assert (await refusal(stream.read())).code() is grpc.StatusCode.UNAVAILABLE


# the process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_program_finishes_calls_before_it_stops(start: Any) -> None:
    port = free_port()
    program: Program = start("--seconds", "1", grpc_port=str(port))
    program.logged("ready")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        accepted = stub.ModelInfer.future(request(PNG))
        deadline = time.monotonic() + 20
        while "rcnn_in_flight 1.0" not in program.client.get("/metrics").text:
            assert time.monotonic() < deadline
        program.terminate()
        program.logged("stopping")
        with pytest.raises(grpc.RpcError) as raised:
            stub.ModelInfer(request(PNG))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(accepted.result(20).outputs) == 4
    assert program.ended() == 0


def test_a_port_that_is_taken_ends_the_program_with_a_reason(start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        program: Program = start(grpc_port=str(taken.getsockname()[1]))
        assert program.ended() == 1
    assert "choose another RCNN_HOST or RCNN_GRPC_PORT" in program.log
    assert "Traceback" not in program.log


async def test_the_app_listens_where_the_settings_say(serve: Serve) -> None:
    port = free_port()
    app = create_app(Settings(grpc_port=port), FakeDetector())
    async with app.router.lifespan_context(app), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        live = await asyncio.wait_for(stub.ServerLive(service_pb2.ServerLiveRequest()), 20)
        assert live.live


# the messages


def test_the_messages_are_those_of_the_published_protocol() -> None:
    """Every field of ours has the number, type and label that tritonclient's own descriptors give it."""
    nested = [
        getattr(service_pb2, f"Model{name}") for name in ("InferRequest", "InferResponse", "MetadataResponse")
    ]
    nested.append(service_pb2.RepositoryIndexResponse)
    published = {
        **service_pb2.DESCRIPTOR.message_types_by_name,
        **model_config_pb2.DESCRIPTOR.message_types_by_name,
        **{name: one for kind in nested for name, one in kind.DESCRIPTOR.nested_types_by_name.items()},
    }
    fields = 0
    for name, kind in vars(messages()).items():
        for ours in kind.DESCRIPTOR.fields:
            theirs = published[name].fields_by_name[ours.name]
            fields += 1
            assert (ours.number, ours.type, ours.is_repeated) == (
                theirs.number,
                theirs.type,
                theirs.is_repeated,
            ), f"{name}.{ours.name}"
            if ours.type == FieldDescriptor.TYPE_MESSAGE:
                assert ours.message_type.name == theirs.message_type.name
            if ours.type == FieldDescriptor.TYPE_ENUM:
                values = theirs.enum_type.values_by_name
                assert all(values[one.name].number == one.number for one in ours.enum_type.values)
    assert fields > 60
