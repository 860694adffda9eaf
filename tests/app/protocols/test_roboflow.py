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
from tests.support.protocols import PNG, TEXT, as_json, detected, in_pieces
from tests.support.served import Serve, Served

INFER = "/infer/object_detection"
IMAGE = {"type": "base64", "value": TEXT}
PUBLIC = "93.184.216.34"


async def infer(served: Served, **body: Any) -> httpx.Response:
    return await served.client.post(INFER, json={"image": IMAGE} | body)


def supervision(result: dict[str, Any]) -> tuple[Any, Any, Any, list[str]]:
    """supervision 0.26, detection/utils/internal.py: what `Detections.from_inference` makes of an answer."""
    assert isinstance(result["image"]["width"], int)
    assert isinstance(result["image"]["height"], int)
    corners = []
    for one in result["predictions"]:
        left, top = one["x"] - one["width"] / 2, one["y"] - one["height"] / 2
        corners.append([left, top, left + one["width"], top + one["height"]])
        assert not {"points", "rle_mask", "tracker_id"} & set(one)
    return (
        np.array(corners).reshape(-1, 4),
        np.array([one["class_id"] for one in result["predictions"]], int),
        np.array([one["confidence"] for one in result["predictions"]]),
        [one["class"] for one in result["predictions"]],
    )


# the answer


async def test_supervision_reads_the_detections_of_detect(served: Served) -> None:
    response = await infer(served, confidence=0.1)
    boxes, ids, confidences, names = supervision(response.json())
    expected = await detected(served, "score_threshold=0.1")
    assert names == [name for name, *_ in expected] == ["Square", "disc", "kite"]
    assert confidences.tolist() == [score for _, score, _ in expected]
    assert boxes == pytest.approx(np.array([box for *_, box in expected]), abs=0.001)
    assert ids.tolist() == [1, 2, 4]  # as of /labels


async def test_supervision_itself_reads_them_so(served: Served) -> None:
    answer = (await infer(served, confidence=0.1)).json()
    read = Detections.from_inference(answer)
    boxes, ids, confidences, names = supervision(answer)
    assert read.xyxy == pytest.approx(boxes)
    assert (read.class_id.tolist(), read.confidence.tolist()) == (ids.tolist(), confidences.tolist())
    assert read.data["class_name"].tolist() == names == ["Square", "disc", "kite"]
    nothing = Detections.from_inference((await infer(served, confidence=1)).json())
    assert len(nothing) == 0


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


async def test_nothing_found_is_an_answer(served: Served) -> None:
    boxes, *_ = supervision((await infer(served, confidence=1)).json())
    assert boxes.shape == (0, 4)


async def test_a_list_of_images_is_answered_by_a_list(served: Served) -> None:
    other = {"type": "base64", "value": as_text(picture(99, 77))}
    answers = (await infer(served, image=[IMAGE, other])).json()
    assert [(one["image"]["width"], one["image"]["height"]) for one in answers] == [(64, 48), (99, 77)]
    assert len((await infer(served, image=[IMAGE])).json()) == 1


async def test_the_predictions_are_drawn_when_asked_for(served: Served) -> None:
    photo = {"type": "base64", "value": as_text(picture(640, 480))}
    answer = (await infer(served, image=photo, visualize_predictions=True)).json()
    drawn = pillow.open(io.BytesIO(base64.b64decode(answer["visualization"])))
    assert (drawn.format, drawn.size) == ("JPEG", (640, 480))


def as_text(image: bytes) -> str:
    return base64.b64encode(image).decode()


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


CONFIDENCES: dict[str, tuple[dict[str, Any], float]] = {
    "none": ({}, 0.4),
    "default": ({"confidence": "default"}, 0.5),
    "best": ({"confidence": "best"}, 0.5),
    "nought": ({"confidence": 0}, 0.0),
}


@pytest.mark.parametrize("case", CONFIDENCES)
async def test_without_a_confidence_it_is_roboflows(served: Served, case: str) -> None:
    body, expected = CONFIDENCES[case]
    await infer(served, **body)
    assert served.detector.batches[-1][0].options.score_threshold == expected


async def test_inference_sdk_finds_the_model_and_sends_its_image(served: Served) -> None:
    """inference_sdk 0.50, http/client.py: asks the registry, then posts model_id, api_key and the image."""
    registry = (await served.client.get("/model/registry", params={"api_key": "None"})).json()
    [described] = [one for one in registry["models"] if one["model_id"] == "fake"]
    assert described["task_type"] == "object-detection"
    body = {"api_key": None, "model_id": "fake", "confidence": 0.5, "visualize_predictions": False}
    response = await infer(served, **body)
    assert supervision(response.json())[3] == ["Square", "disc"]


async def test_another_model_is_refused(served: Served) -> None:
    response = await infer(served, model_id="coco/3")
    assert (response.status_code, list(response.json())) == (404, ["message"])
    assert "'fake'" in response.json()["message"]
    assert served.detector.prepared == []


WRONG: dict[str, dict[str, Any]] = {
    "numpy": {"image": {"type": "numpy", "value": TEXT}},
    "no value": {"image": {"type": "base64"}},
    "not base64": {"image": {"type": "base64", "value": "?"}},
    "no images": {"image": []},
    "too many images": {"image": [IMAGE] * 33},
    "a confidence in percent": {"confidence": 40},
    "an unknown class": {"class_filter": ["unicorn"]},
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
async def test_a_wrong_request_is_refused_with_its_reason(served: Served, body: dict[str, Any]) -> None:
    response = await infer(served, **body)
    assert (response.status_code, list(response.json())) == (422, ["message"])
    assert served.detector.prepared == []


# keys


async def test_the_key_may_be_in_the_body_or_in_the_query(serve: Serve) -> None:
    async with serve(api_keys="alpha,beta") as served:
        assert (await infer(served, api_key="beta")).status_code == 200
        response = await served.client.post(f"{INFER}?api_key=alpha", json={"image": IMAGE})
        assert response.status_code == 200
        assert (await served.client.get("/model/registry?api_key=alpha")).status_code == 200
        for refused in (
            await infer(served, api_key="gamma"),
            await infer(served),
            await served.client.get("/model/registry"),
        ):
            assert (refused.status_code, list(refused.json())) == (401, ["message"])


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


async def test_addresses_are_not_fetched_unless_allowed(served: Served) -> None:
    response = await by_address(served, "https://example.com/a.png")
    assert response.status_code == 422
    assert "RCNN_ROBOFLOW_URLS" in response.json()["message"]


async def test_an_allowed_address_is_fetched_from_the_host_that_was_checked(serve: Serve) -> None:
    asked: list[httpx.Request] = []

    async def resolve(host: str, port: int) -> list[str]:
        return [PUBLIC]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=in_pieces(PNG))

    async with serve(roboflow_urls=True) as served:
        served.app.state.fetcher = Fetcher(10_000, resolve, httpx.MockTransport(answer))
        response = await by_address(served, "https://example.com:8443/a.png?b=c")
        assert supervision(response.json())[3] == ["Square", "disc"]
    [request] = asked
    assert (request.url.host, request.url.port, request.url.path) == (PUBLIC, 8443, "/a.png")
    assert request.headers["host"] == "example.com:8443"
    assert request.extensions["sni_hostname"] == "example.com"


async def test_no_connection_is_made_to_this_machine(serve: Serve) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    port = listening.getsockname()[1]
    async with serve(roboflow_urls=True) as served:
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0"):  # noqa: S104  # asked for
            response = await by_address(served, f"http://{host}:{port}/metadata")
            assert (response.status_code, list(response.json())) == (422, ["message"]), host
            assert "not public" in response.json()["message"]
    with listening, pytest.raises(BlockingIOError):
        listening.accept()


async def test_a_host_that_does_not_answer_costs_its_request_its_time(serve: Serve) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with serve(roboflow_urls=True, timeout_ms=50) as served:
        served.app.state.fetcher = Fetcher(10_000, resolve)
        response = await by_address(served, "http://example.com/")
        assert (response.status_code, list(response.json())) == (504, ["message"])


async def test_a_client_who_leaves_ends_the_fetch(serve: Serve) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def resolve(host: str, port: int) -> list[str]:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return []

    async with serve(roboflow_urls=True) as served:
        served.app.state.fetcher = Fetcher(10_000, resolve)
        content, media_type = as_json({"image": {"type": "url", "value": "http://example.com/"}})
        caller = AsgiRequest(served.app, INFER, {"Content-Type": media_type})
        caller.send(content)
        await asyncio.wait_for(began.wait(), 20)
        caller.leave()
        await caller.ended()
        assert ended.is_set()
        assert await served.metric("rcnn_requests_total", route=INFER, status="499") == 1
        assert served.detector.prepared == []
