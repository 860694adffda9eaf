"""Hugging Face's object-detection task, as `huggingface_hub.InferenceClient` sends it and reads it."""

import json

import httpx
import huggingface_hub
import pytest

from tests.support.fakes import picture
from tests.support.process import Program
from tests.support.protocols import PNG, TEXT, detected, huggingface_objects, whole
from tests.support.served import Served

# What clients say of the body. huggingface_hub 0.2x to 0.30 let `requests` post bytes, which says nothing;
# 0.31 to 1.x say application/json, or what the file's name tells, else application/octet-stream.


@pytest.mark.parametrize("path", ["", "/", "/models/fake"])
async def test_the_client_gets_the_detections_of_detect(served: Served, path: str) -> None:
    """The body is the image, or JSON with its base64 (inference/_providers/hf_inference.py)."""
    for threshold in (None, 0.1, 0.8):
        content, query = PNG, ""
        if threshold is not None:
            content = json.dumps({"inputs": TEXT, "parameters": {"threshold": threshold}}).encode()
            query = f"score_threshold={threshold}"
        for media_type in (None, "application/octet-stream" if threshold is None else "application/json"):
            headers = {} if media_type is None else {"Content-Type": media_type}
            request = httpx.Request("POST", f"http://test{path}", content=content, headers=headers)
            response = await served.client.send(request)
            assert response.status_code == 200, response.text
            for element in response.json():  # ObjectDetectionOutputElement, ObjectDetectionBoundingBox
                assert set(element) == {"label", "score", "box"}
                assert set(element["box"]) == {"xmin", "ymin", "xmax", "ymax"}
                assert all(type(value) is int for value in element["box"].values())
            assert huggingface_objects(response.json()) == whole(await detected(served, query))


@pytest.mark.parametrize("path", ["", "/models/fake"])
def test_huggingface_hub_itself_gets_the_detections_of_detect(program: Program, path: str) -> None:
    hub = huggingface_hub.InferenceClient(model=f"http://127.0.0.1:{program.port}{path}", token="hf_x")  # noqa: S106  # no secret
    for threshold in (None, 0.1, 0.8):
        query = "" if threshold is None else f"?score_threshold={threshold}"
        response = program.client.post(f"/detect{query}", content=PNG, headers={"Content-Type": "image/png"})
        expected = response.json()
        boxes = [[round(side) for side in box] for box in expected["boxes"]]
        detections = [
            (one.label, one.score, [one.box.xmin, one.box.ymin, one.box.xmax, one.box.ymax])
            for one in hub.object_detection(PNG, threshold=threshold)
        ]
        assert detections == list(zip(expected["names"], expected["scores"], boxes, strict=True))


async def test_the_image_may_have_its_own_media_type(served: Served) -> None:
    headers = {"Content-Type": "image/jpeg"}
    response = await served.client.post("/", content=picture(64, 48, "JPEG"), headers=headers)
    assert huggingface_objects(response.json())


async def test_get_still_answers_with_the_page(served: Served) -> None:
    response = await served.client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (await served.client.get("/")).json() == {"status": "alive"}  # as KServe's client asks


WRONG: dict[str, object] = {
    "no inputs": {"parameters": {}},
    "not base64": {"inputs": "no image!"},
    "an unknown parameter": {"inputs": TEXT, "parameters": {"treshold": 0.5}},
    "a threshold out of range": {"inputs": TEXT, "parameters": {"threshold": 1.5}},
    "inputs that are no text": {"inputs": [TEXT]},
}


async def test_a_wrong_request_is_refused_with_its_reason(served: Served) -> None:
    for name, value in WRONG.items():
        response = await served.client.post("/", content=json.dumps(value))
        assert (response.status_code, list(response.json())) == (422, ["error"]), name
    response = await served.client.post("/", files={"image": PNG})
    assert (response.status_code, list(response.json())) == (415, ["error"])
    assert served.detector.prepared == []


async def test_other_options_of_a_client_are_ignored(served: Served) -> None:
    body = {"inputs": TEXT, "parameters": None, "options": {"wait_for_model": True}}
    response = await served.client.post("/", json=body)
    assert huggingface_objects(response.json()) == whole(await detected(served))


async def test_a_request_that_may_be_sent_again_names_the_time(served: Served) -> None:
    served.app.state.service.drain()
    response = await served.client.post("/", content=PNG)
    assert response.status_code == 503  # which the client waits for
    assert response.json()["estimated_time"] > 0
