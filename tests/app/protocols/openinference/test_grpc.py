"""The gRPC server: keys, errors, deadlines, cancellation, metrics, streams, shutdown."""

import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from app.protocols.openinference.grpc.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from app.protocols.openinference.grpc.server import listen
from tests.support.fakes import FakeDetector, picture
from tests.support.process import Program
from tests.support.protocols import PNG
from tests.support.served import Serve, Served, eventually

ROUTE = "/inference.GRPCInferenceService/ModelInfer"


def request(*files: bytes, **others: Any) -> Any:
    """A request with its contents in the tensor itself."""
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="image", datatype="BYTES", shape=[len(files)], contents={"bytes_contents": files}
    )
    return pb.ModelInferRequest(model_name="fake", inputs=[tensor], **others)


@asynccontextmanager
async def calls(served: Served) -> AsyncIterator[Any]:
    """A stub of a gRPC server with the same service."""
    server, port = await listen(served.app.state.service, served.app.state.stream_slots, "127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield GRPCInferenceServiceStub(channel)
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
        tensor = pb.ModelInferRequest.InferInputTensor(
            name="images", datatype="UINT8", shape=[1, 2, 2, 3], contents={"uint_contents": range(12)}
        )
        await stub.ModelInfer(pb.ModelInferRequest(model_name="fake", inputs=[tensor]))
        assert served.detector.rows[-1] == bytes(range(6))


async def test_calls_are_counted_and_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    async with calls(served) as stub:
        with caplog.at_level(logging.INFO):
            call = stub.ModelInfer(request(PNG), metadata=(("x-request-id", "mine"),))
            await call
            assert ("x-request-id", "mine") in tuple(await call.trailing_metadata())
            await stub.ServerReady(pb.ServerReadyRequest())
        assert await served.metric("rcnn_requests_total", route=ROUTE, status="200") == 1
        assert await served.metric("rcnn_request_duration_seconds_count", route=ROUTE) == 1
        [line] = [record for record in caplog.records if record.name == "app.access"]
        assert line.getMessage().startswith(f"gRPC {ROUTE} 200")
        assert {"client": "127.0.0.1", "model": "fake", "objects": 2}.items() <= vars(line).items()


SHARED_MEMORY = {"shared_memory_region": {"string_param": "a"}}
SHARED_INPUT = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": SHARED_MEMORY}
WRONG: dict[str, Any] = {
    "raw contents for nothing": request(PNG, raw_input_contents=[b"", b""]),
    "classification": request(
        PNG, outputs=[{"name": "scores", "parameters": {"classification": {"int64_param": 1}}}]
    ),
    "shared memory": pb.ModelInferRequest(model_name="fake", inputs=[SHARED_INPUT]),
    "no image": request(b"no image"),
}


async def test_a_wrong_request_is_an_invalid_argument(served: Served) -> None:
    async with calls(served) as stub:
        for name, wrong in WRONG.items():
            error = await refusal(stub.ModelInfer(wrong))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, name
            assert error.details()
            assert "rcnn-code" in dict(tuple(error.trailing_metadata()))
        assert served.detector.prepared == []


async def test_keys_are_checked(serve: Serve) -> None:
    async with serve(api_keys="alpha,beta") as served, calls(served) as stub:
        for metadata in ((), (("authorization", "Bearer a"),), (("authorization", "Basic alpha"),)):
            error = await refusal(stub.ModelInfer(request(PNG), metadata=metadata))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        refused = stub.ModelMetadata(pb.ModelMetadataRequest(name="fake"))
        assert (await refusal(refused)).code() is grpc.StatusCode.UNAUTHENTICATED
        for metadata in ((("authorization", "Bearer beta"),), (("x-api-key", "alpha"),)):
            await stub.ModelInfer(request(PNG), metadata=metadata)
        assert (await stub.ServerReady(pb.ServerReadyRequest())).ready


async def test_calls_before_the_model_is_ready_are_unavailable(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served, calls(served) as stub:
        error = await refusal(stub.ModelInfer(request(PNG)))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert int(dict(tuple(error.trailing_metadata()))["retry-after"]) >= 1
        assert (await refusal(stub.ModelMetadata(pb.ModelMetadataRequest(name="fake")))).code() is (
            grpc.StatusCode.UNAVAILABLE
        )
        assert not (await stub.ModelReady(pb.ModelReadyRequest(name="fake"))).ready
        assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        detector.warm.set()
        await served.ready()
        assert (await stub.ModelReady(pb.ModelReadyRequest(name="fake"))).ready


async def test_a_full_service_refuses(serve: Serve) -> None:
    async with serve(max_queue=1) as served, calls(served) as stub:
        served.detector.free.clear()
        first = stub.ModelInfer(request(PNG))
        await eventually(lambda: len(served.detector.batches) == 1, "the first call is on the device")
        error = await refusal(stub.ModelInfer(request(PNG)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await served.counts(1, "rcnn_rejected_total", code="overloaded")
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
        await served.counts(1, "rcnn_cancelled_total")
        await served.counts(1, "rcnn_requests_total", route=ROUTE, status="499")
        await served.counts(0, "rcnn_in_flight")


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
        await served.counts(1, "rcnn_rejected_total", code="deadline_exceeded")


async def test_the_text_of_an_unexpected_error_is_only_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.detector.poison = lambda job: RuntimeError("SECRET")
    async with calls(served) as stub:
        with caplog.at_level(logging.ERROR):
            error = await refusal(stub.ModelInfer(request(PNG)))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "SECRET" not in error.details()
        assert any("SECRET" in str(record.exc_info) for record in caplog.records)
        await served.counts(1, "rcnn_rejected_total", code="internal")


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
        assert "this is text, not an image" in two.error_message
        assert not two.infer_response.outputs
        assert await served.metric("rcnn_stream_frames_total", route=STREAM, outcome="answered") == 2
        assert await served.metric("rcnn_stream_frames_total", route=STREAM, outcome="failed") == 1
        await served.counts(1, "rcnn_rejected_total", code="invalid_image")
        await served.counts(1, "rcnn_requests_total", route=STREAM, status="200")


async def test_a_stream_needs_a_key_and_a_slot(serve: Serve) -> None:
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
        await served.counts(0, "rcnn_streams", route=STREAM)


async def test_the_end_of_a_stream_cancels_its_work(served: Served) -> None:
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
        await served.counts(0, "rcnn_streams", route=STREAM)


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
    program: Program = start("--seconds", "3", grpc_port=str(port))
    program.logged("ready")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
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
