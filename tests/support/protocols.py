"""What each drop-in protocol is sent for one image, and how its answer reads: for the tests of all."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.fakes import CARD, picture
from tests.support.served import Served


def encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


PNG = picture(64, 48)
TEXT = encoded(PNG)

# FINDS on 64 x 48 at the card's threshold and at 0.25, as /detect answers them
FOUND = [("Square", 0.9375, [8.0, 12.0, 32.0, 36.0]), ("disc", 0.75, [16.0, 12.0, 64.0, 24.0])]
KITE = ("kite", 0.25, [0.0, 0.0, 21.333, 6.857])

Object = tuple[str, float, list[float]]


def multipart(**parts: Any) -> tuple[bytes, str]:
    """A form's body and Content-Type, as httpx and requests write them: fields before files."""
    files = {name: part for name, part in parts.items() if not isinstance(part, str)}
    fields = {name: part for name, part in parts.items() if isinstance(part, str)}
    request = httpx.Request("POST", "http://test/", data=fields, files=files)
    return request.read(), request.headers["Content-Type"]


def as_json(value: object) -> tuple[bytes, str]:
    return json.dumps(value).encode(), "application/json"


async def detected(served: Served, query: str = "", image: bytes = PNG) -> list[Object]:
    """What POST /detect finds, as name, score and corners."""
    response = await served.client.post(
        f"/detect?{query}", content=image, headers={"Content-Type": "image/png"}
    )
    answer = response.json()
    return list(zip(answer["names"], answer["scores"], answer["boxes"], strict=True))


def whole(objects: list[Object]) -> list[Object]:
    """The same in whole pixels."""
    return [(name, score, [round(value) for value in box]) for name, score, box in objects]


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """A body as the network brings it."""
    yield body


@dataclass(frozen=True)
class Protocol:
    """One route of a protocol: a request for one image, what its answer found, and what its error says."""

    path: str
    route: str
    body: Callable[[bytes], tuple[bytes, str]]
    objects: Callable[[Any], list[Object]]
    whole_pixels: bool
    error: Callable[[dict[str, Any], int], str]  # checks the error's shape; its text

    async def post(self, served: Served, image: bytes = PNG, **headers: str) -> httpx.Response:
        content, media_type = self.body(image)
        return await served.client.post(
            self.path, content=content, headers={"Content-Type": media_type} | headers
        )

    def refused(self, response: httpx.Response, status: int) -> str:
        """Check an error, whose shape is the protocol's own; its text."""
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/json"
        assert int(response.headers["content-length"]) == len(response.content)
        return self.error(response.json(), status)


def deepstack_objects(answer: Any) -> list[Object]:
    corners = ("x_min", "y_min", "x_max", "y_max")
    return [(one["label"], one["confidence"], [one[key] for key in corners]) for one in answer["predictions"]]


def deepstack_error(answer: dict[str, Any], status: int) -> str:
    assert (answer["success"], answer["predictions"], answer["count"]) == (False, [], 0)
    assert answer["code"] == status
    return str(answer["error"])


def huggingface_objects(answer: Any) -> list[Object]:
    corners = ("xmin", "ymin", "xmax", "ymax")
    return [(one["label"], one["score"], [one["box"][key] for key in corners]) for one in answer]


def huggingface_error(answer: dict[str, Any], status: int) -> str:
    assert set(answer) <= {"error", "estimated_time"}
    return str(answer["error"])


def torchserve_objects(answer: Any) -> list[Object]:
    return [(name, one["score"], box) for one in answer for name, box in one.items() if name != "score"]


def torchserve_error(answer: dict[str, Any], status: int) -> str:
    assert set(answer) == {"code", "type", "message"}
    assert answer["code"] == status
    assert answer["type"].endswith("Exception")
    return str(answer["message"])


def kserve_objects(answer: Any) -> list[Object]:
    [one] = answer["predictions"]
    return list(zip(one["names"], one["scores"], one["boxes"], strict=True))


def kserve_error(answer: dict[str, Any], status: int) -> str:
    assert set(answer) == {"error"}
    return str(answer["error"])


def openinference_objects(answer: Any) -> list[Object]:
    """Of the first image; the names are the fake card's."""
    found = {one["name"]: one["data"] for one in answer["outputs"]}
    depth = len(found["labels"]) // len(found["num_detections"])
    boxes = [found["boxes"][start : start + 4] for start in range(0, 4 * depth, 4)]
    names = [CARD.labels[label] for label in found["labels"]]
    kept = found["num_detections"][0]
    return list(zip(names, found["scores"], boxes, strict=False))[:kept]


def roboflow_objects(answer: Any) -> list[Object]:
    return [
        (
            one["class"],
            one["confidence"],
            [
                one["x"] - one["width"] / 2,
                one["y"] - one["height"] / 2,
                one["x"] + one["width"] / 2,
                one["y"] + one["height"] / 2,
            ],
        )
        for one in answer["predictions"]
    ]


def roboflow_error(answer: dict[str, Any], status: int) -> str:
    assert set(answer) == {"message"}
    return str(answer["message"])


def tensor(*data: Any, name: str = "image", datatype: str = "BYTES", **others: Any) -> dict[str, Any]:
    """An input of the Open Inference Protocol in JSON: files in base64, unless `others` say otherwise."""
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data} | others


PROTOCOLS = {
    "deepstack": Protocol(
        "/v1/vision/detection",
        "/v1/vision/detection",
        lambda image: multipart(image=("image", image)),
        deepstack_objects,
        True,
        deepstack_error,
    ),
    "deepstack custom": Protocol(
        "/v1/vision/custom/fake",
        "/v1/vision/custom/{name}",
        lambda image: multipart(image=("image", image), min_confidence="0.5"),
        deepstack_objects,
        True,
        deepstack_error,
    ),
    "huggingface": Protocol(
        "/",
        "/",
        lambda image: (image, "application/octet-stream"),
        huggingface_objects,
        True,
        huggingface_error,
    ),
    "huggingface by name": Protocol(
        "/models/fake",
        "/models/{name}",
        lambda image: as_json({"inputs": encoded(image), "parameters": {"threshold": 0.5}}),
        huggingface_objects,
        True,
        huggingface_error,
    ),
    "torchserve": Protocol(
        "/predictions/fake",
        "/predictions/{name}",
        lambda image: multipart(data=("kitten.jpg", image)),
        torchserve_objects,
        False,
        torchserve_error,
    ),
    "torchserve with a version": Protocol(
        "/predictions/fake/1.0",
        "/predictions/{name}/{version}",
        lambda image: (image, "application/octet-stream"),
        torchserve_objects,
        False,
        torchserve_error,
    ),
    "kserve": Protocol(
        "/v1/models/fake:predict",
        "/v1/models/{name}:predict",
        lambda image: as_json({"instances": [{"b64": encoded(image)}]}),
        kserve_objects,
        False,
        kserve_error,
    ),
    "openinference": Protocol(
        "/v2/models/fake/infer",
        "/v2/models/{name}/infer",
        lambda image: as_json({"inputs": [tensor(encoded(image))]}),
        openinference_objects,
        False,
        kserve_error,
    ),
    "openinference with a version": Protocol(
        "/v2/models/fake/versions/1/infer",
        "/v2/models/{name}/versions/{version}/infer",
        lambda image: as_json({"inputs": [tensor([encoded(image)], shape=[1, 1])]}),
        openinference_objects,
        False,
        kserve_error,
    ),
    "roboflow": Protocol(
        "/infer/object_detection",
        "/infer/object_detection",
        lambda image: as_json({"model_id": "fake", "image": {"type": "base64", "value": encoded(image)}}),
        roboflow_objects,
        False,
        roboflow_error,
    ),
}
