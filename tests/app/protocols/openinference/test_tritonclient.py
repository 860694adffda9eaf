"""`tritonclient`, over HTTP and over gRPC, against the real program: what it gets is what /detect answers."""

import queue
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.support.fakes import picture
from tests.support.process import Program

SIZES = [(64, 48), (311, 97)]
FILES = [picture(*size) for size in SIZES]
OUTPUTS = ("boxes", "labels", "scores", "num_detections")


@dataclass(frozen=True)
class Triton:
    """One of the two clients, and its module."""

    module: Any
    client: Any

    def files(self, files: list[bytes], **how: Any) -> Any:
        tensor = self.module.InferInput("image", [len(files)], "BYTES")
        return tensor.set_data_from_numpy(np.array(files, object), **how)

    def pixels(self, images: np.ndarray[Any, Any], **how: Any) -> Any:
        tensor = self.module.InferInput("images", list(images.shape), "UINT8")
        return tensor.set_data_from_numpy(images, **how)

    def infer(self, tensor: Any, **how: Any) -> dict[str, Any]:
        result = self.client.infer("fake", [tensor], **how)
        return {name: result.as_numpy(name) for name in OUTPUTS}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Program, int]]:
    """The program with a gRPC port; it takes bodies of 200,000 bytes and the key `secret`."""
    port = free_port()
    program = Program(grpc_port=str(port), max_body_bytes="200000", api_keys="secret")
    program.logged("ready")
    yield program, port
    program.terminate()
    assert program.ended() == 0  # although both clients are still connected
    program.close()


@pytest.fixture(scope="module", params=["http", "grpc"])
def triton(request: pytest.FixtureRequest, server: tuple[Program, int]) -> Iterator[Triton]:
    program, port = server
    module = getattr(tritonclient, request.param)
    client = module.InferenceServerClient(f"127.0.0.1:{program.port if request.param == 'http' else port}")
    client.register_plugin(_Key())
    yield Triton(module, client)
    client.close()


class _Key(tritonclient.http.InferenceServerClientPlugin):  # type: ignore[misc]  # it is not typed
    """Sends the key with every call."""

    def __call__(self, request: Any) -> None:
        request.headers["authorization"] = "Bearer secret"


def check(server: tuple[Program, int], found: dict[str, Any], query: str = "") -> None:
    """Compare with /detect, file by file."""
    headers = {"Content-Type": "image/png", "X-API-Key": "secret"}
    for index, file in enumerate(FILES):
        response = server[0].client.post(f"/detect?{query}", content=file, headers=headers)
        expected = response.json()
        count = len(expected["labels"])
        assert found["num_detections"][index] == count
        assert found["labels"][index][:count].tolist() == expected["labels"]
        assert found["scores"][index][:count].tolist() == expected["scores"]
        assert found["boxes"][index][:count] == pytest.approx(np.array(expected["boxes"]), abs=0.001)


def test_files_get_the_detections_of_detect(server: tuple[Program, int], triton: Triton) -> None:
    check(server, triton.infer(triton.files(FILES)))
    parameters = {"score_threshold": 0.1, "classes": "disc,kite", "normalized": True}
    found = triton.infer(triton.files(FILES), parameters=parameters, priority=1, timeout=20_000_000)
    check(server, found, "score_threshold=0.1&classes=disc,kite&normalized=true")
    assert [found[name].dtype for name in OUTPUTS] == [np.float32, np.int64, np.float32, np.int32]


def test_pixels_get_the_detections_of_a_file_of_their_size(
    server: tuple[Program, int], triton: Triton
) -> None:
    found = triton.infer(triton.pixels(np.zeros((2, 48, 64, 3), np.uint8)), model_version="1")
    assert found["boxes"][0].tolist() == found["boxes"][1].tolist() == [[8, 12, 32, 36], [16, 12, 64, 24]]


def test_nothing_found(triton: Triton) -> None:
    found = triton.infer(triton.files(FILES), parameters={"score_threshold": 1.0})
    assert [found[name].shape for name in OUTPUTS] == [(2, 0, 4), (2, 0), (2, 0), (2,)]


def test_outputs_are_chosen(triton: Triton) -> None:
    wanted = [triton.module.InferRequestedOutput("scores")]
    found = triton.infer(triton.files(FILES), outputs=wanted)
    assert found["scores"].tolist() == [[0.9375, 0.75]] * 2
    assert found["boxes"] is None


def test_metadata_and_readiness(triton: Triton) -> None:
    client = triton.client
    assert (client.is_server_live(), client.is_server_ready()) == (True, True)
    assert (client.is_model_ready("fake"), client.is_model_ready("fake", "1")) == (True, True)
    how = {} if triton.module is tritonclient.http else {"as_json": True}
    assert client.get_server_metadata(**how)["name"] == "rcnn-serve"
    described = client.get_model_metadata("fake", **how)
    assert [one["name"] for one in described["inputs"]] == ["image", "images"]
    assert [one["name"] for one in described["outputs"]] == list(OUTPUTS)
    config = client.get_model_config("fake", **how)
    assert config.get("config", config)["max_batch_size"] == 32


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "another model": ({"model_name": "yolo"}, "404", "NOT_FOUND"),
    "another version": ({"model_version": "2"}, "404", "NOT_FOUND"),
    "an unknown parameter": ({"parameters": {"x": 1}}, "422", "INVALID_ARGUMENT"),
    "no time": ({"timeout": 1}, "504", "DEADLINE_EXCEEDED"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_told(triton: Triton, case: str) -> None:
    how, status, code = REFUSED[case]
    call = {"model_name": "fake", "inputs": [triton.files(FILES)]} | how
    with pytest.raises(InferenceServerException) as raised:
        triton.client.infer(**call)
    expected = status if triton.module is tritonclient.http else f"StatusCode.{code}"
    assert raised.value.status() == expected


def test_what_is_too_large_is_refused(triton: Triton) -> None:
    with pytest.raises(InferenceServerException) as raised:
        triton.infer(triton.pixels(np.zeros((1, 300, 300, 3), np.uint8)))
    assert raised.value.status() in ("413", "StatusCode.RESOURCE_EXHAUSTED")


# over HTTP alone


@pytest.fixture(scope="module")
def over_http(server: tuple[Program, int]) -> Iterator[Triton]:
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server[0].port}")
    client.register_plugin(_Key())
    yield Triton(tritonclient.http, client)
    client.close()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_bodies_may_be_compressed_and_in_json(
    server: tuple[Program, int], over_http: Triton, coding: str, binary: bool
) -> None:
    how = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
    tensor = over_http.pixels(np.zeros((2, 48, 64, 3), np.uint8), binary_data=binary)
    wanted = [tritonclient.http.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
    found = over_http.infer(tensor, outputs=wanted, **how)
    assert found["boxes"][1].tolist() == [[8, 12, 32, 36], [16, 12, 64, 24]]


def test_a_compressed_body_may_not_be_larger_than_any_other(over_http: Triton) -> None:
    tensor = over_http.pixels(np.zeros((1, 5000, 5000, 3), np.uint8))
    with pytest.raises(InferenceServerException) as raised:
        over_http.infer(tensor, request_compression_algorithm="gzip")
    assert raised.value.status() == "413"


# over gRPC alone


def test_a_stream_answers_as_single_calls_do(server: tuple[Program, int]) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server[1]}")
    triton = Triton(tritonclient.grpc, client)
    files, broken = triton.files(FILES), triton.files([b"no image"])
    client.start_stream(
        lambda result, error: answers.put((result, error)), headers={"authorization": "Bearer secret"}
    )
    for number, tensor in enumerate((files, broken, files)):
        client.async_stream_infer("fake", [tensor], request_id=str(number))
    (first, fault), (bad, refused), (last, _) = (answers.get(timeout=20) for _ in range(3))
    client.stop_stream()
    client.close()
    assert (fault, bad) == (None, None)
    assert "known format" in str(refused)
    assert [result.get_response().id for result in (first, last)] == ["0", "2"]
    check(server, {name: last.as_numpy(name) for name in OUTPUTS})


async def test_the_same_on_asyncio(server: tuple[Program, int]) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for _ in range(3):
            yield {"model_name": "fake", "inputs": [Triton(tritonclient.grpc, None).files(FILES)]}

    async with grpc_aio.InferenceServerClient(f"127.0.0.1:{server[1]}") as client:
        stream = client.stream_infer(requests(), headers={"authorization": "Bearer secret"})
        found = [(result, error) async for result, error in stream]
    assert [error for _, error in found] == [None] * 3
    for result, _ in found:
        check(server, {name: result.as_numpy(name) for name in OUTPUTS})
