"""Hugging Face's object-detection task, as `huggingface_hub.InferenceClient` sends it and reads it."""

import base64
import json
from typing import Any

import httpx
import huggingface_hub
import pytest

from tests.support.fakes import picture
from tests.support.process import Program
from tests.support.protocols import PNG, TEXT, detected, huggingface_objects, whole
from tests.support.served import Served


def payload(image: bytes, threshold: float | None) -> bytes:
    """The body: the image, or JSON with its base64 (inference/_providers/hf_inference.py)."""
    if threshold is None:
        return image
    encoded = base64.b64encode(image).decode()
    return json.dumps({"inputs": encoded, "parameters": {"threshold": threshold}}).encode()


# What clients say of it. huggingface_hub 0.2x to 0.30 let `requests` post bytes, which says nothing at all;
# 0.31 to 1.x say application/json, or what the file's name tells, else application/octet-stream.
OLD: dict[str, str] = {}


def new(threshold: float | None, guessed: str = "application/octet-stream") -> dict[str, str]:
    return {"Content-Type": guessed if threshold is None else "application/json"}


async def object_detection(
    served: Served, url: str, image: bytes, threshold: float | None, headers: dict[str, str]
) -> list[dict[str, Any]]:
    """InferenceClient(model=url, token="hf_x").object_detection(image, threshold=…): it posts to that URL."""
    request = httpx.Request(
        "POST",
        url,
        content=payload(image, threshold),
        headers={"Authorization": "Bearer hf_x", "User-Agent": "unknown/None; hf_hub/1.0"} | headers,
    )
    response = await served.client.send(request)
    response.raise_for_status()
    elements: list[dict[str, Any]] = response.json()
    for element in elements:  # ObjectDetectionOutputElement and its ObjectDetectionBoundingBox
        assert set(element) == {"label", "score", "box"}
        assert set(element["box"]) == {"xmin", "ymin", "xmax", "ymax"}
        assert all(type(value) is int for value in element["box"].values())
    return elements


@pytest.mark.parametrize("url", ["http://test", "http://test/", "http://test/models/fake"])
@pytest.mark.parametrize("age", ["old", "new"])
@pytest.mark.parametrize("threshold", [None, 0.1, 0.8])
async def test_the_client_gets_the_detections_of_detect(
    served: Served, url: str, age: str, threshold: float | None
) -> None:
    headers = OLD if age == "old" else new(threshold)
    found = await object_detection(served, url, PNG, threshold, headers)
    query = "" if threshold is None else f"score_threshold={threshold}"
    assert huggingface_objects(found) == whole(await detected(served, query))


@pytest.mark.parametrize("path", ["", "/models/fake"])
@pytest.mark.parametrize("threshold", [None, 0.1, 0.8])
def test_huggingface_hub_itself_gets_the_detections_of_detect(
    program: Program, path: str, threshold: float | None
) -> None:
    hub = huggingface_hub.InferenceClient(model=f"http://127.0.0.1:{program.port}{path}", token="hf_x")  # noqa: S106  # no secret
    found = hub.object_detection(PNG, threshold=threshold)
    query = "" if threshold is None else f"?score_threshold={threshold}"
    response = program.client.post(f"/detect{query}", content=PNG, headers={"Content-Type": "image/png"})
    expected = response.json()
    assert [(one.label, one.score) for one in found] == list(
        zip(expected["names"], expected["scores"], strict=True)
    )
    assert [[one.box.xmin, one.box.ymin, one.box.xmax, one.box.ymax] for one in found] == [
        [round(side) for side in box] for box in expected["boxes"]
    ]


async def test_a_file_name_tells_the_media_type(served: Served) -> None:
    photo = picture(64, 48, "JPEG")
    assert await object_detection(served, "http://test", photo, None, new(None, "image/jpeg"))


async def test_the_page_is_still_there(served: Served) -> None:
    response = await served.client.get("/")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")


WRONG: dict[str, object] = {
    "no inputs": {"parameters": {}},
    "not base64": {"inputs": "no image!"},
    "an unknown parameter": {"inputs": TEXT, "parameters": {"treshold": 0.5}},
    "a threshold out of range": {"inputs": TEXT, "parameters": {"threshold": 1.5}},
    "inputs that are no text": {"inputs": [TEXT]},
}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
async def test_wrong_json_is_refused_with_its_reason(served: Served, value: object) -> None:
    response = await served.client.post("/", content=json.dumps(value))
    assert response.status_code == 422
    assert set(response.json()) == {"error"}  # hf_raise_for_status shows what stands under it
    assert served.detector.prepared == []


async def test_what_else_a_client_sends_is_not_about_us(served: Served) -> None:
    body = {"inputs": TEXT, "parameters": None, "options": {"wait_for_model": True}}
    response = await served.client.post("/", json=body)
    assert huggingface_objects(response.json()) == whole(await detected(served))


async def test_a_form_is_refused(served: Served) -> None:
    response = await served.client.post("/", files={"image": PNG})
    assert (response.status_code, list(response.json())) == (415, ["error"])


async def test_a_request_that_may_be_sent_again_says_when(served: Served) -> None:
    served.app.state.service.drain()
    response = await served.client.post("/", content=PNG)
    assert response.status_code == 503  # which the client waits for
    assert response.json()["estimated_time"] > 0
