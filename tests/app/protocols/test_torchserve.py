"""TorchServe's inference API: its requests, by curl and by code, and the answer of its object_detector."""

from typing import Any

import httpx

from tests.support.fakes import FakeDetector
from tests.support.protocols import PNG, TEXT
from tests.support.served import Serve, Served

ANSWER = [
    {"Square": [8.0, 12.0, 32.0, 36.0], "score": 0.9375},
    {"disc": [16.0, 12.0, 64.0, 24.0], "score": 0.75},
]

# docs/inference_api.md and ts/torch_handler/vision_handler.py of TorchServe 0.12
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "curl -T": ("PUT", {"content": PNG}),
    "curl --data-binary": (
        "POST",
        {"content": PNG, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    ),
    "curl -F data=@": ("POST", {"files": {"data": ("kitten.jpg", PNG)}}),
    "requests, files": ("POST", {"files": {"data": PNG}}),
    "another field": ("POST", {"files": {"img": ("kitten.jpg", PNG)}}),
    "a form's base64-free body": ("POST", {"files": {"body": (None, PNG)}}),
    "json data": ("POST", {"json": {"data": TEXT}}),
    "json body": ("POST", {"json": {"body": TEXT}}),
    "an image type": ("POST", {"content": PNG, "headers": {"Content-Type": "image/png"}}),
}


async def test_an_image_is_taken_as_torchserve_takes_it(served: Served) -> None:
    """The answer is that of its example object_detector/fast-rcnn: [{name: [x1, y1, x2, y2], "score": …}]."""
    for path in ("/predictions/fake", "/predictions/fake/1.0", "/predictions/fake/1"):
        for name, (method, sent) in REQUESTS.items():
            response = await served.client.request(method, path, **sent)
            assert (response.status_code, response.json()) == (200, ANSWER), name
            assert [list(detection)[1] for detection in response.json()] == ["score", "score"]


def refused(response: httpx.Response, status: int, kind: str) -> str:
    """The text of the error."""
    answer = response.json()
    assert (response.status_code, answer["code"], answer["type"]) == (status, status, kind)
    return str(answer["message"])


async def test_errors_have_a_type(served: Served) -> None:
    for path, name in (("/predictions/fake/2.0", "for 1"), ("/predictions/densenet161", "'fake'")):
        response = await served.client.put(path, content=PNG)
        assert name in refused(response, 404, "ModelNotFoundException")
    for content in (b"no image", b""):
        response = await served.client.post("/predictions/fake", content=content)
        refused(response, 400, "BadRequestException")
    for value in ({}, {"data": 1}, {"data": "?"}, [TEXT]):
        refused(await served.client.post("/predictions/fake", json=value), 422, "BadRequestException")
    served.app.state.service.drain()
    response = await served.client.put("/predictions/fake", content=PNG)
    refused(response, 503, "ServiceUnavailableException")


async def test_ping_is_healthy_once_the_model_is_ready(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False, api_keys="secret") as served:
        loading = await served.client.get("/ping")
        assert (loading.status_code, loading.json()) == (503, {"status": "Unhealthy"})
        assert int(loading.headers["retry-after"]) >= 1
        detector.warm.set()
        await served.ready()
        healthy = await served.client.get("/ping")
        assert (healthy.status_code, healthy.json()) == (200, {"status": "Healthy"})
