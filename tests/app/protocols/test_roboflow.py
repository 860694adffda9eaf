"""Roboflow's inference API: its request, its answer as `supervision` reads it, images by their address."""

import asyncio
import base64
import io
import socket
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as pillow
from supervision import Detections

from app.transport.url_images import Fetcher
from tests.support.asgi_request import AsgiRequest
from tests.support.fakes import FakeDetector, picture
from tests.support.protocols import PNG, PROTOCOLS, TEXT, as_json, detected, encoded, in_pieces
from tests.support.served import Serve, Served

INFER = "/infer/object_detection"
refused = PROTOCOLS["roboflow"].refused
IMAGE = {"type": "base64", "value": TEXT}


async def infer(served: Served, **body: Any) -> httpx.Response:
    return await served.client.post(INFER, json={"image": IMAGE} | body)


def names(response: httpx.Response) -> list[str]:
    return [prediction["class"] for prediction in response.json()["predictions"]]


# the answer


async def test_supervision_reads_the_detections_of_detect(served: Served) -> None:
    read = Detections.from_inference((await infer(served, confidence=0.1)).json())
    expected = await detected(served, "score_threshold=0.1")
    assert read.data["class_name"].tolist() == [name for name, *_ in expected] == ["Square", "disc", "kite"]
    assert read.confidence.tolist() == [score for _, score, _ in expected]
    assert read.xyxy == pytest.approx(np.array([box for *_, box in expected]), abs=0.001)
    assert read.class_id.tolist() == [1, 2, 4]  # as of /labels
    assert len(Detections.from_inference((await infer(served, confidence=1)).json())) == 0


async def test_the_answer_has_the_keys_of_roboflows(served: Served) -> None:
    answer = (await infer(served)).json()
    assert list(answer) == ["inference_id", "time", "image", "predictions"]
    assert answer["image"] == {"width": 64, "height": 48}
    first = answer["predictions"][0]
    detection_id = first.pop("detection_id")
    assert detection_id != answer["predictions"][1]["detection_id"]
    assert first == {
        "x": 20.0,
        "y": 24.0,
        "width": 24.0,
        "height": 24.0,
        "confidence": 0.9375,
        "class": "Square",
        "class_id": 1,
    }


async def test_a_list_of_images_is_answered_by_a_list(served: Served) -> None:
    other = {"type": "base64", "value": encoded(picture(99, 77))}
    answers = (await infer(served, image=[IMAGE, other])).json()
    assert [(one["image"]["width"], one["image"]["height"]) for one in answers] == [(64, 48), (99, 77)]
    assert len((await infer(served, image=[IMAGE])).json()) == 1


async def test_the_predictions_are_drawn_when_asked_for(served: Served) -> None:
    photo = {"type": "base64", "value": encoded(picture(640, 480))}
    answer = (await infer(served, image=photo, visualize_predictions=True)).json()
    drawn = pillow.open(io.BytesIO(base64.b64decode(answer["visualization"])))
    assert (drawn.format, drawn.size) == ("JPEG", (640, 480))


# the request


async def test_options_reach_the_detector(served: Served) -> None:
    await infer(
        served,
        confidence=0.25,
        iou_threshold=0.75,
        max_detections=7,
        class_agnostic_nms=True,
        class_filter=["disc", "KITE"],
        disable_active_learning=True,
        id="1",
        source="x",
    )
    options = served.detector.batches[-1][0].options
    assert (options.score_threshold, options.nms_threshold, options.max_detections) == (0.25, 0.75, 7)
    assert (options.classes, options.class_agnostic) == (frozenset({2, 4}), True)


async def test_the_default_confidence_is_roboflows(served: Served) -> None:
    for body, threshold in (
        ({}, 0.4),
        ({"confidence": "default"}, 0.5),
        ({"confidence": "best"}, 0.5),
        ({"confidence": 0}, 0.0),
    ):
        await infer(served, **body)
        assert served.detector.batches[-1][0].options.score_threshold == threshold


async def test_inference_sdk_finds_the_model_and_sends_its_image(served: Served) -> None:
    """inference_sdk 0.50, http/client.py: asks the registry, then posts model_id, api_key and the image."""
    registry = (await served.client.get("/model/registry", params={"api_key": "None"})).json()
    [described] = [one for one in registry["models"] if one["model_id"] == "fake"]
    assert described["task_type"] == "object-detection"
    body = {"api_key": None, "model_id": "fake", "confidence": 0.5, "visualize_predictions": False}
    response = await infer(served, **body)
    assert names(response) == ["Square", "disc"]


WRONG: dict[str, dict[str, Any]] = {
    "numpy": {"image": {"type": "numpy", "value": TEXT}},
    "no value": {"image": {"type": "base64"}},
    "not base64": {"image": {"type": "base64", "value": "?"}},
    "no images": {"image": []},
    "too many images": {"image": [IMAGE] * 33},
    "a confidence in percent": {"confidence": 40},
    "an unknown class": {"class_filter": ["unicorn"]},
}


async def test_a_wrong_request_is_refused_with_its_reason(served: Served) -> None:
    for name, body in WRONG.items():
        assert refused(await infer(served, **body), 422), name
    assert "'fake'" in refused(await infer(served, model_id="coco/3"), 404)
    assert "RCNN_FETCH_URLS" in refused(await by_address(served, "https://example.com/a.png"), 422)
    assert served.detector.prepared == []


# keys


async def test_the_key_may_be_in_the_body_or_in_the_query(serve: Serve) -> None:
    async with serve(api_keys="alpha,beta") as served:
        assert (await infer(served, api_key="beta")).status_code == 200
        response = await served.client.post(f"{INFER}?api_key=alpha", json={"image": IMAGE})
        assert response.status_code == 200
        assert (await served.client.get("/model/registry?api_key=alpha")).status_code == 200
        refused(await infer(served, api_key="gamma"), 401)
        refused(await infer(served), 401)
        refused(await served.client.get("/model/registry"), 401)


async def test_no_model_is_registered_before_there_is_one(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        assert (await served.client.get("/model/registry")).json() == {"models": []}
        detector.warm.set()
        await served.ready()


# addresses


async def by_address(served: Served, address: str) -> httpx.Response:
    return await infer(served, image={"type": "url", "value": address})


async def resolve_public(host: str, port: int) -> list[str]:
    return ["93.184.216.34"]


async def test_an_allowed_address_is_fetched(serve: Serve) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=in_pieces(PNG))

    async with serve(fetch_urls=True) as served:
        served.app.state.fetcher = Fetcher(10_000, resolve_public, httpx.MockTransport(answer))
        response = await by_address(served, "https://example.com:8443/a.png?b=c")
        assert names(response) == ["Square", "disc"]


async def test_no_connection_is_made_to_this_machine(serve: Serve) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    port = listening.getsockname()[1]
    async with serve(fetch_urls=True) as served:
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0"):  # noqa: S104  # to be refused
            response = await by_address(served, f"http://{host}:{port}/metadata")
            assert "not public" in refused(response, 422), host
    with listening, pytest.raises(BlockingIOError):
        listening.accept()


async def test_a_host_that_does_not_answer_ends_in_504(serve: Serve) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with serve(fetch_urls=True, timeout_ms=50) as served:
        served.app.state.fetcher = Fetcher(10_000, resolve)
        refused(await by_address(served, "http://example.com/"), 504)


async def test_a_client_who_leaves_ends_the_fetch(serve: Serve) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def resolve(host: str, port: int) -> list[str]:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return []

    async with serve(fetch_urls=True) as served:
        served.app.state.fetcher = Fetcher(10_000, resolve)
        content, media_type = as_json({"image": {"type": "url", "value": "http://example.com/"}})
        request = AsgiRequest(served.app, INFER, {"Content-Type": media_type})
        request.send(content)
        await asyncio.wait_for(began.wait(), 20)
        request.leave()
        await request.ended()
        assert ended.is_set()
        assert await served.metric("rcnn_requests_total", route=INFER, status="499") == 1
        assert served.detector.prepared == []
