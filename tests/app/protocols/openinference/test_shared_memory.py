"""Triton's shared memory: off, for clients elsewhere, and on, over HTTP and gRPC; what a client may name."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from app.protocols.openinference.grpc.messages import SERVICE
from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from app.protocols.openinference.grpc.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from app.protocols.openinference.grpc.server import listen
from app.protocols.openinference.shared_memory import FOLDER, MAX_REGIONS
from tests.app.protocols.openinference.test_grpc import refusal
from tests.app.protocols.openinference.test_grpc_bounds import channel
from tests.support.protocols import PNG, PROTOCOLS, as_json
from tests.support.served import Serve, Served, eventually

refused = PROTOCOLS["openinference"].refused
PIXELS = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(1, 48, 64, 3)
SHIFT = 16  # bytes of the file before the region
SYSTEM = "/v2/systemsharedmemory"


@pytest.fixture
def key() -> Iterator[str]:
    """A file of shared memory with PIXELS."""
    path = FOLDER / f"rcnn-test-{os.getpid()}"
    path.write_bytes(bytes(SHIFT) + PIXELS.tobytes())
    yield f"/{path.name}"
    path.unlink()


async def register(served: Served, key: str, name: str = "frames", **values: Any) -> httpx.Response:
    region = {"key": key, "offset": SHIFT, "byte_size": PIXELS.nbytes} | values
    return await served.client.post(f"{SYSTEM}/region/{name}/register", content=as_json(region)[0])


async def infer(served: Served, offset: int = 0, size: int = PIXELS.nbytes, **headers: str) -> httpx.Response:
    parameters: dict[str, Any] = {"shared_memory_region": "frames", "shared_memory_byte_size": size}
    if offset:
        parameters["shared_memory_offset"] = offset
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(PIXELS.shape), "parameters": parameters}
    content = as_json({"inputs": [tensor]})[0]
    return await served.client.post("/v2/models/fake/infer", content=content, headers=headers)


def client_at(served: Served, address: Any) -> httpx.AsyncClient:
    """A client that the server sees at that address; None: at none."""
    transport = httpx.ASGITransport(served.app, client=address)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.parametrize("kind", ["system", "cuda"])
async def test_it_is_off_by_default(served: Served, key: str, kind: str) -> None:
    path = f"/v2/{kind}sharedmemory"
    response = await served.client.post(f"{path}/region/frames/register", content=as_json({"key": key})[0])
    assert "RCNN_SHARED_MEMORY" in refused(response, 422)
    assert (await served.client.get(f"{path}/status")).json() == []
    for unregister in ("unregister", "region/frames/unregister"):  # as clients do before they begin
        assert (await served.client.post(f"{path}/{unregister}")).json() == {}
    assert "RCNN_SHARED_MEMORY" in refused(await infer(served), 422)


async def test_pixels_are_read_from_a_region(serve: Serve, key: str) -> None:
    async with serve(shared_memory=True) as served:
        assert (await register(served, key)).json() == {}
        [region] = (await served.client.get(f"{SYSTEM}/region/frames/status")).json()
        assert region == {"name": "frames", "key": key, "offset": SHIFT, "byte_size": PIXELS.nbytes}
        response = await infer(served)
        found = PROTOCOLS["openinference"].objects(response.json())
        assert [name for name, *_ in found] == ["Square", "disc"]
        assert served.detector.rows == [PIXELS[0, 0].tobytes()]
        await served.client.post(f"{SYSTEM}/unregister")
        assert (await served.client.get(f"{SYSTEM}/status")).json() == []
        assert "'frames'" in refused(await infer(served), 404)


async def test_a_client_elsewhere_and_a_gpus_memory_are_refused(serve: Serve, key: str) -> None:
    async with serve(shared_memory=True) as served:
        await register(served, key)
        refused(await infer(served, **{"X-Forwarded-For": "192.0.2.1"}), 422)
        cuda = await served.client.post("/v2/cudasharedmemory/region/frames/register", content=b"{}")
        refused(cuda, 422)
        for address in (("192.0.2.1", 5000), None):  # None: behind Ray's proxy
            async with client_at(served, address) as elsewhere:
                assert (await elsewhere.get(f"{SYSTEM}/status")).json() == []
                refused(await elsewhere.get(f"{SYSTEM}/region/frames/status"), 422)
        assert len((await served.client.get(f"{SYSTEM}/status")).json()) == 1
        assert served.detector.rows == []


async def test_a_client_of_the_unix_socket_is_here(serve: Serve, key: str, tmp_path: Path) -> None:
    async with serve(shared_memory=True, uds=tmp_path / "socket") as served:
        await register(served, key)
        async with client_at(served, None) as here:
            assert len((await here.get(f"{SYSTEM}/status")).json()) == 1


KEYS = {
    "another folder": "/../etc/passwd",
    "a folder inside": "/a/b",
    "none": "/",
    "the folder itself": ".",
    "not there": "/rcnn-no-such-file",
}


async def test_a_client_may_name_files_of_that_folder_alone(serve: Serve, key: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(PIXELS.nbytes + SHIFT))
    link, pipe = FOLDER / f"{key[1:]}-link", FOLDER / f"{key[1:]}-pipe"
    link.symlink_to(tmp_path / "secret")
    os.mkfifo(pipe)
    try:
        async with serve(shared_memory=True) as served:
            for one in (*KEYS.values(), f"/{link.name}", f"/{pipe.name}"):
                assert "key" in refused(await register(served, one), 422), one
    finally:
        link.unlink()
        pipe.unlink()


async def test_regions_and_reads_are_bounded(serve: Serve, key: str) -> None:
    async with serve(shared_memory=True, max_body_bytes=PIXELS.nbytes - 1) as served:
        for values in ({"byte_size": PIXELS.nbytes + 1}, {"byte_size": 0}, {"offset": 2**62}):
            assert "byte_size" in refused(await register(served, key, **values), 422)
        await register(served, key)
        refused(await register(served, key), 409)
        for offset, size in ((1, PIXELS.nbytes), (0, 0)):
            assert "shared_memory_byte_size" in refused(await infer(served, offset, size), 422)
        refused(await infer(served), 413)
        os.truncate(FOLDER / key[1:], SHIFT)
        assert "shorter" in refused(await infer(served, 0, PIXELS.nbytes - 1), 422)
        os.truncate(FOLDER / key[1:], SHIFT + PIXELS.nbytes)
        for number in range(1, MAX_REGIONS):
            assert (await register(served, key, f"region-{number}")).status_code == 200
        assert str(MAX_REGIONS) in refused(await register(served, key, "one more"), 409)


async def test_two_inputs_are_refused_before_either_is_read(serve: Serve) -> None:
    """The region is not registered: reading it would be 404."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 1, 1, 3]}
    shared = tensor | {"parameters": {"shared_memory_region": "frames", "shared_memory_byte_size": 3}}
    async with serve(shared_memory=True) as served, calls(served) as stub:
        response = await served.client.post("/v2/models/fake/infer", json={"inputs": [shared] * 2})
        assert "exactly one" in refused(response, 422)
        error = await refusal(stub.ModelInfer(inference(3, inputs=2)))
        assert "exactly one" in error.details()


async def test_bytes_of_a_region_are_counted_as_those_of_bodies(serve: Serve, key: str) -> None:
    size = 2**19  # bytes of the region; a request for all of them finds no room beside the file
    os.truncate(FOLDER / key[1:], SHIFT + size)
    file, headers = PNG + bytes(2**19), {"Content-Type": "image/png"}
    async with serve(shared_memory=True, max_queue_bytes=2**20) as served, calls(served) as stub:
        account = served.app.state.service.bodies.users
        await register(served, key, byte_size=size)
        served.detector.free.clear()
        first = asyncio.create_task(served.client.post("/detect", content=file, headers=headers))
        await eventually(lambda: len(served.detector.batches) == 1, "the first request is on the device")
        assert "bodies together" in refused(await infer(served, size=size), 429)
        error = await refusal(stub.ModelInfer(inference(size)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "bodies together" in error.details()
        served.detector.free.set()
        assert (await first).status_code == 200
        served.detector.free.clear()
        pending = [asyncio.create_task(infer(served)), asyncio.create_task(_call(stub))]
        await eventually(lambda: account.held > 2 * PIXELS.nbytes, "both regions are counted")
        served.detector.free.set()
        await asyncio.gather(*pending)
        await eventually(lambda: account.held == 0, "nothing is counted any more")


async def _call(stub: Any) -> Any:
    return await stub.ModelInfer(inference())


@asynccontextmanager
async def calls(served: Served) -> Any:
    state = served.app.state
    server, port = await listen(state.service, state.stream_slots, "127.0.0.1", 0, state.shared_memory)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as connected:
            yield GRPCInferenceServiceStub(connected)
    finally:
        await server.stop(None)


def inference(size: int = PIXELS.nbytes, inputs: int = 1) -> Any:
    parameters = {
        "shared_memory_region": {"string_param": "frames"},
        "shared_memory_byte_size": {"int64_param": size},
    }
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="images", datatype="UINT8", shape=PIXELS.shape, parameters=parameters
    )
    return pb.ModelInferRequest(model_name="fake", inputs=[tensor] * inputs)


async def test_grpc_has_the_same_regions(serve: Serve, key: str) -> None:
    async with serve(shared_memory=True) as served, calls(served) as stub:
        await stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())
        await stub.SystemSharedMemoryRegister(
            pb.SystemSharedMemoryRegisterRequest(
                name="frames", key=key, offset=SHIFT, byte_size=PIXELS.nbytes
            )
        )
        answer = await stub.ModelInfer(inference())
        assert np.frombuffer(answer.raw_output_contents[1], np.int64).tolist() == [1, 2]
        stream = stub.ModelStreamInfer(iter([inference()]))
        assert (await stream.read()).infer_response.model_name == "fake"
        assert served.detector.rows == [PIXELS[0, 0].tobytes()] * 2
        status = await stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(name="frames"))
        assert status.regions["frames"].key == key
        assert len((await served.client.get(f"{SYSTEM}/status")).json()) == 1
        for wrong in (-(10**12), 2**62):
            error = await refusal(stub.ModelInfer(inference(wrong)))
            assert "shared_memory_byte_size" in error.details()
        cuda = await refusal(stub.CudaSharedMemoryRegister(pb.CudaSharedMemoryRegisterRequest(name="a")))
        assert cuda.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_grpc_refuses_where_it_is_off(served: Served) -> None:
    async with channel(served) as (connected, _):
        for kind in ("SystemSharedMemory", "CudaSharedMemory"):
            for method in ("Status", "Unregister"):
                assert await connected.unary_unary(f"/{SERVICE}/{kind}{method}")(b"") == b""
            error = await refusal(connected.unary_unary(f"/{SERVICE}/{kind}Register")(b"\x0a\x01a"))
            assert "RCNN_SHARED_MEMORY" in error.details()
        error = await refusal(GRPCInferenceServiceStub(connected).ModelInfer(inference()))
        assert "RCNN_SHARED_MEMORY" in error.details()
