"""TorchServe's inference API: its requests, by curl and by code, and the answer of its object_detector."""

import base64
import json
from typing import Any

import pytest

from tests.support.fakes import FakeDetector
from tests.support.protocols import PNG, TEXT, detected, torchserve_objects
from tests.support.served import Serve, Served

ANSWER = [
    {"Square": [8.0, 12.0, 32.0, 36.0], "score": 0.9375},
    {"disc": [16.0, 12.0, 64.0, 24.0], "score": 0.75},
]

# docs/inference_api.md and ts/torch_handler/vision_handler.py of TorchServe 0.12
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
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


@pytest.mark.parametrize("path", ["/predictions/fake", "/predictions/fake/1.0", "/predictions/fake/1"])
@pytest.mark.parametrize("way", WAYS)
async def test_an_image_is_taken_as_torchserve_takes_it(served: Served, path: str, way: str) -> None:
    method, sent = WAYS[way]
    response = await served.client.request(method, path, **sent)
    assert response.status_code == 200, response.text
    assert response.json() == ANSWER
    assert torchserve_objects(response.json()) == await detected(served)


async def test_the_shape_is_that_of_the_archived_handler(served: Served) -> None:
    """examples/object_detector/fast-rcnn/README.md: a list of {name: [x1, y1, x2, y2], "score": …}."""
    answer = (await served.client.put("/predictions/fake", content=PNG)).json()
    for one in answer:
        assert list(one)[1] == "score"
        assert len(one[next(iter(one))]) == 4


async def test_another_version_is_refused(served: Served) -> None:
    response = await served.client.post("/predictions/fake/2.0", content=PNG)
    assert response.status_code == 404
    assert response.json()["type"] == "ModelNotFoundException"
    assert "1.0" in response.json()["message"]


async def test_the_error_of_an_unknown_model_is_torchserves(served: Served) -> None:
    response = await served.client.put("/predictions/densenet161", content=PNG)
    answer = response.json()
    assert (response.status_code, answer["code"], answer["type"]) == (404, 404, "ModelNotFoundException")
    assert "'fake'" in answer["message"]


TYPES = {
    b"no image": (400, "BadRequestException"),
    b"": (400, "BadRequestException"),
}


@pytest.mark.parametrize(("content", "expected"), TYPES.items())
async def test_errors_have_a_type(served: Served, content: bytes, expected: tuple[int, str]) -> None:
    response = await served.client.post("/predictions/fake", content=content)
    assert (response.status_code, response.json()["type"]) == expected


async def test_wrong_json_is_refused(served: Served) -> None:
    for value in ({}, {"data": 1}, {"data": "?"}, [base64.b64encode(PNG).decode()]):
        response = await served.client.post(
            "/predictions/fake", content=json.dumps(value), headers={"Content-Type": "application/json"}
        )
        assert (response.status_code, response.json()["type"]) == (422, "BadRequestException")


async def test_ping_tells_whether_work_is_taken(serve: Serve) -> None:
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


async def test_an_overloaded_service_is_unavailable(serve: Serve) -> None:
    async with serve() as served:
        served.app.state.service.drain()
        response = await served.client.put("/predictions/fake", content=PNG)
        assert (response.status_code, response.json()["type"]) == (503, "ServiceUnavailableException")
