"""How the soak test asks for a model over every protocol: who answered, and what."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from websockets.sync.client import connect

from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from app.protocols.openinference.grpc.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub

JPEG = {"Content-Type": "image/jpeg"}


@dataclass(frozen=True)
class Answer:
    """The model that answered, and the detections where the protocol has those of /detect; else an error."""

    model: str = ""
    error: str = ""
    detections: Any = None


class Connection:
    """One client of each protocol."""

    def __init__(self, port: int, grpc_port: int) -> None:
        self._address = f"127.0.0.1:{port}"
        self.http = httpx.Client(base_url=f"http://{self._address}", timeout=60)
        self._stub = GRPCInferenceServiceStub(grpc.insecure_channel(f"127.0.0.1:{grpc_port}"))

    def ask(self, protocol: str, name: str, image: bytes) -> Answer:
        """The answer of a model to an image."""
        if protocol == "grpc":
            return self._call(name, image)
        if protocol == "live":
            return self._live(name, image)
        response = HTTP[protocol](self.http, name, image)
        if response.status_code != 200:
            return Answer(error=f"{response.status_code} {response.text[:200]}")
        if protocol == "several":
            result = response.json()["results"].get(name, {})
            return Answer(result.get("model", ""), str(result.get("error", "")))
        if protocol == "stream":
            return Answer(json.loads(response.text.splitlines()[0])["model"])
        detections = of_json(response.json()) if protocol in ("raw", "put", "form", "json") else None
        return Answer(response.headers["X-Model"], detections=detections)

    def _call(self, name: str, image: bytes) -> Answer:
        request = pb.ModelInferRequest(model_name=name, raw_input_contents=[_as_tensor(image)])
        request.inputs.add(name="image", datatype="BYTES", shape=[1])
        try:
            return Answer(self._stub.ModelInfer(request, timeout=60).model_name)
        except grpc.RpcError as error:
            return Answer(error=str(error))

    def _live(self, name: str, image: bytes) -> Answer:
        with connect(f"ws://{self._address}/detect/live?model={name}") as socket:
            socket.send(image)
            answer = json.loads(socket.recv(60))
        return Answer(answer.get("model", ""), str(answer.get("error", "")))


def of_json(answer: dict[str, Any]) -> Any:
    """The detections of POST /detect."""
    return answer["boxes"], answer["scores"], answer["labels"]


def _text(image: bytes) -> str:
    return base64.b64encode(image).decode()


def _as_tensor(image: bytes) -> bytes:
    return len(image).to_bytes(4, "little") + image


def _oip(image: bytes) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [_text(image)]}]}


Send = Callable[[httpx.Client, str, bytes], httpx.Response]
HTTP: dict[str, Send] = {
    "raw": lambda http, name, image: http.post(f"/detect?model={name}", content=image, headers=JPEG),
    "put": lambda http, name, image: http.put(f"/detect?model={name}/1", content=image),
    "form": lambda http, name, image: http.post("/detect", files={"image": image}, data={"model": name}),
    "json": lambda http, name, image: http.post("/detect", json={"image": _text(image), "model": name}),
    "several": lambda http, name, image: http.post(
        f"/detect?model=shapes&model={name}&model=blood-cells", content=image, headers=JPEG
    ),
    "batch": lambda http, name, image: http.post(
        f"/detect/batch?model={name}", files=[("image", image), ("image", image)]
    ),
    "stream": lambda http, name, image: http.post(
        f"/detect/stream?model={name}", content=image, headers=JPEG
    ),
    "huggingface": lambda http, name, image: http.post(f"/models/{name}", content=image, headers=JPEG),
    "deepstack": lambda http, name, image: http.post(f"/v1/vision/custom/{name}", files={"image": image}),
    "roboflow": lambda http, name, image: http.post(
        "/infer/object_detection",
        json={"model_id": name, "image": {"type": "base64", "value": _text(image)}},
    ),
    "roboflow hosted": lambda http, name, image: http.post(f"/{name}/1", files={"file": image}),
    "torchserve": lambda http, name, image: http.post(f"/predictions/{name}", content=image, headers=JPEG),
    "kserve": lambda http, name, image: http.post(
        f"/v1/models/{name}:predict", json={"instances": [{"b64": _text(image)}]}
    ),
    "openinference": lambda http, name, image: http.post(f"/v2/models/{name}/infer", json=_oip(image)),
}
PROTOCOLS = (*HTTP, "grpc", "live")
