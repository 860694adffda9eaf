"""tritonclient over HTTP and the generated stub over gRPC get what /detect of the real program answers."""

import socket
from collections.abc import Iterator
from typing import Any, Protocol

import grpc
import numpy as np
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from app.protocols.openinference.grpc.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.support.fakes import picture
from tests.support.process import Program

SIZES = [(64, 48), (311, 97)]
FILES = np.array([picture(*size) for size in SIZES], object)
PIXELS = np.zeros((2, 48, 64, 3), np.uint8)
OUTPUTS = ("boxes", "labels", "scores", "num_detections")
BOXES = [[8, 12, 32, 36], [16, 12, 64, 24]]  # that are found in PIXELS
DTYPES = {"FP32": "<f4", "INT64": "<i8", "INT32": "<i4"}
KEY = (("authorization", "Bearer secret"),)


class Refused(Exception):
    """The server's status: of HTTP, or gRPC's name."""


class Client(Protocol):
    """What both clients can do: `options` are parameters, `timeout` in µs, `outputs`, `model_version`."""

    def infer(self, images: Any, model: str = "fake", **options: Any) -> dict[str, Any]: ...

    def state(self) -> list[bool]: ...  # live, ready, the model, the model's version

    def described(
        self,
    ) -> tuple[str, list[str], list[str], int]: ...  # server, inputs, outputs, max_batch_size


class Http:
    """tritonclient, with the key in every request."""

    def __init__(self, port: int) -> None:
        self.client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{port}")
        self.client.register_plugin(_Key())
        self.close = self.client.close

    def infer(
        self, images: Any, model: str = "fake", binary: bool = True, outputs: Any = None, **options: Any
    ) -> dict[str, Any]:
        pixels = images.dtype == np.uint8
        name, datatype = ("images", "UINT8") if pixels else ("image", "BYTES")
        tensor = tritonclient.http.InferInput(name, list(images.shape), datatype)
        tensor.set_data_from_numpy(images, binary_data=binary)
        requested = [tritonclient.http.InferRequestedOutput(one, binary) for one in outputs or OUTPUTS]
        try:
            result = self.client.infer(model, [tensor], outputs=requested, **options)
        except InferenceServerException as error:
            raise Refused(error.status()) from error
        return {name: result.as_numpy(name) for name in OUTPUTS}

    def state(self) -> list[bool]:
        client = self.client
        models = [client.is_model_ready("fake", version) for version in ("", "1")]
        return [client.is_server_live(), client.is_server_ready(), *models]

    def described(self) -> tuple[str, list[str], list[str], int]:
        server, model = self.client.get_server_metadata(), self.client.get_model_metadata("fake")
        assert "binary_tensor_data" in server["extensions"]
        names = [[one["name"] for one in model[key]] for key in ("inputs", "outputs")]
        return server["name"], *names, self.client.get_model_config("fake")["max_batch_size"]


class _Key(tritonclient.http.InferenceServerClientPlugin):  # type: ignore[misc]  # it is not typed
    """Sends the key with every call."""

    def __call__(self, request: Any) -> None:
        request.headers["authorization"] = "Bearer secret"


class Grpc:
    """The generated stub, with the key in every call."""

    def __init__(self, port: int) -> None:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = GRPCInferenceServiceStub(channel)
        self.close = channel.close

    def infer(self, images: Any, model: str = "fake", **options: Any) -> dict[str, Any]:
        return arrays(self._answer(self.stub.ModelInfer, infer_request(images, model, **options)))

    def _answer(self, method: Any, request: Any) -> Any:
        try:
            return method(request, metadata=KEY, timeout=20)
        except grpc.RpcError as error:
            raise Refused(error.code().name) from error

    def state(self) -> list[bool]:
        stub, ready = self.stub, pb.ModelReadyRequest
        models = [self._answer(stub.ModelReady, ready(name="fake", version=one)).ready for one in ("", "1")]
        live = stub.ServerLive(pb.ServerLiveRequest()).live
        return [live, stub.ServerReady(pb.ServerReadyRequest()).ready, *models]

    def described(self) -> tuple[str, list[str], list[str], int]:
        server = self._answer(self.stub.ServerMetadata, pb.ServerMetadataRequest())
        model = self._answer(self.stub.ModelMetadata, pb.ModelMetadataRequest(name="fake"))
        names = [[one.name for one in tensors] for tensors in (model.inputs, model.outputs)]
        config = self._answer(self.stub.ModelConfig, pb.ModelConfigRequest(name="fake")).config
        return server.name, *names, config.max_batch_size


def infer_request(images: Any, model: str = "fake", **options: Any) -> pb.ModelInferRequest:
    """A request as tritonclient writes it: contents are in `raw_input_contents`."""
    pixels = images.dtype == np.uint8
    name, datatype = ("images", "UINT8") if pixels else ("image", "BYTES")
    raw = images.tobytes() if pixels else serialize_byte_tensor(images).item()
    parameters = {
        **options.pop("parameters", {}),
        **{key: options.pop(key) for key in ("priority", "timeout") if key in options},
    }
    request = pb.ModelInferRequest(
        model_name=model,
        inputs=[{"name": name, "datatype": datatype, "shape": images.shape}],
        outputs=[{"name": one} for one in options.pop("outputs", ())],
        raw_input_contents=[raw],
        **options,
    )
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    for key, value in parameters.items():
        setattr(request.parameters[key], kinds[type(value)], value)
    return request


def arrays(response: pb.ModelInferResponse) -> dict[str, Any]:
    """The outputs by their names; None for one that is not there."""
    found: dict[str, Any] = dict.fromkeys(OUTPUTS)
    for one, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        found[one.name] = np.frombuffer(raw, DTYPES[one.datatype]).reshape(one.shape)
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Program, int]]:
    """The program with a gRPC port; it takes bodies of 200,000 bytes and the key `secret`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    program = Program(grpc_port=str(port), max_body_bytes="200000", api_keys="secret")
    program.logged("ready")
    yield program, port
    program.terminate()
    assert program.ended() == 0  # although both clients are still connected
    program.close()


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: tuple[Program, int]) -> Iterator[Client]:
    client = Http(server[0].port) if request.param == "http" else Grpc(server[1])
    yield client
    client.close()


def check(server: tuple[Program, int], found: dict[str, Any], query: str = "") -> None:
    """Compare with /detect, file by file."""
    headers = {"Content-Type": "image/png", "X-API-Key": "secret"}
    for index, file in enumerate(FILES):
        expected = server[0].client.post(f"/detect?{query}", content=file, headers=headers).json()
        count = len(expected["labels"])
        assert found["num_detections"][index] == count
        assert found["labels"][index][:count].tolist() == expected["labels"]
        assert found["scores"][index][:count].tolist() == expected["scores"]
        assert found["boxes"][index][:count] == pytest.approx(np.array(expected["boxes"]), abs=0.001)


def test_files_get_the_detections_of_detect(server: tuple[Program, int], client: Client) -> None:
    check(server, client.infer(FILES))
    parameters = {"score_threshold": 0.1, "classes": "disc,kite", "normalized": True}
    found = client.infer(FILES, parameters=parameters, priority=1, timeout=20_000_000)
    check(server, found, "score_threshold=0.1&classes=disc,kite&normalized=true")
    assert [found[name].dtype for name in OUTPUTS] == [np.float32, np.int64, np.float32, np.int32]


def test_pixels_get_the_detections_of_a_file_of_their_size(client: Client) -> None:
    assert client.infer(PIXELS, model_version="1")["boxes"].tolist() == [BOXES] * 2


def test_nothing_found(client: Client) -> None:
    found = client.infer(FILES, parameters={"score_threshold": 1.0})
    assert [found[name].shape for name in OUTPUTS] == [(2, 0, 4), (2, 0), (2, 0), (2,)]


def test_outputs_are_chosen(client: Client) -> None:
    found = client.infer(FILES, outputs=["scores"])
    assert found["scores"].tolist() == [[0.9375, 0.75]] * 2
    assert found["boxes"] is None


def test_metadata_and_readiness(client: Client) -> None:
    assert client.state() == [True] * 4
    assert client.described() == ("rcnn-serve", ["image", "images"], list(OUTPUTS), 32)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "another model": ({"model": "yolo"}, "404", "NOT_FOUND"),
    "another version": ({"model_version": "2"}, "404", "NOT_FOUND"),
    "an unknown parameter": ({"parameters": {"x": 1}}, "422", "INVALID_ARGUMENT"),
    "no time": ({"timeout": 1}, "504", "DEADLINE_EXCEEDED"),
    "too large": ({"images": np.zeros((1, 300, 300, 3), np.uint8)}, "413", "RESOURCE_EXHAUSTED"),
}


@pytest.mark.parametrize(("options", "http", "grpc_name"), REFUSED.values(), ids=REFUSED)
def test_refusals_have_their_status(
    client: Client, options: dict[str, Any], http: str, grpc_name: str
) -> None:
    with pytest.raises(Refused) as raised:
        client.infer(**{"images": FILES} | options)
    assert str(raised.value) == (http if isinstance(client, Http) else grpc_name)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_http_bodies_may_be_compressed_and_in_json(
    server: tuple[Program, int], coding: str, binary: bool
) -> None:
    client = Http(server[0].port)
    how = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
    assert client.infer(PIXELS, binary=binary, **how)["boxes"].tolist() == [BOXES] * 2
    client.close()


def test_a_compressed_body_may_not_be_larger_than_any_other(server: tuple[Program, int]) -> None:
    client = Http(server[0].port)
    with pytest.raises(Refused, match="413"):
        client.infer(np.zeros((1, 5000, 5000, 3), np.uint8), request_compression_algorithm="gzip")
    client.close()
