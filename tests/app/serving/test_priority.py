"""Priority over HTTP: which request goes first, which is shed, and every way to set it."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from tests.support.fakes import FakeDetector, picture
from tests.support.served import Serve, Served, eventually

PNG = {"content-type": "image/png"}
WIDTHS = {"low": 200, "normal": 264, "high": 328}  # each a canvas of its own


def held() -> FakeDetector:
    detector = FakeDetector()
    detector.free.clear()
    return detector


def detect(served: Served, width: int, query: str = "", **headers: str) -> "asyncio.Task[httpx.Response]":
    url = f"/detect?{query}"
    work = served.client.post(url, content=picture(width, 100), headers=PNG | headers)
    return asyncio.ensure_future(work)


async def waiting(served: Served, depth: int) -> None:
    await eventually(lambda: served.app.state.service.queue_depth == depth, f"{depth} wait")


async def occupied(served: Served) -> "asyncio.Task[httpx.Response]":
    """A request on the device, which keeps it."""
    task = detect(served, 100)
    await eventually(lambda: bool(served.detector.batches), "the device is busy")
    return task


WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "in the query": ("priority={}", {}),
    "in the header": ("", {"x-priority": "{}"}),
    "in both, of which the query counts": ("priority={}", {"x-priority": "1"}),
}


@pytest.mark.parametrize(("query", "headers"), WAYS.values(), ids=WAYS)
async def test_the_higher_number_goes_first(serve: Serve, query: str, headers: dict[str, str]) -> None:
    async with serve(held()) as served:
        tasks = [await occupied(served)]
        for number, name in enumerate(WIDTHS):
            sent = {key: value.format(number) for key, value in headers.items()}
            tasks.append(detect(served, WIDTHS[name], query.format(number), **sent))
            await waiting(served, number + 1)
        served.detector.free.set()
        assert {(await task).status_code for task in tasks} == {200}
        assert [width for width, _ in served.detector.reached[1:]] == [328, 264, 200]
        for number in "012":
            count = 2 if number == "1" else 1
            counted = {"priority": number, "outcome": "accepted"}
            assert await served.metric("rcnn_priority_requests_total", **counted) == count
            assert await served.metric("rcnn_priority_queue_seconds_count", priority=number) == count


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/fake/infer", {"parameters": {"priority": 2}}),
        ("/v2/models/fake/infer", {"parameters": {"priority": 0}}),
        ("/v2/models/fake/infer", {"parameters": {"priority": 2**63}}),
        ("/v1/models/fake:predict", {"parameters": {"priority": 2}}),
    ],
)
async def test_other_protocols_take_it_among_their_parameters(
    served: Served, path: str, body: dict[str, Any]
) -> None:
    data = base64.b64encode(picture()).decode()
    image = (
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [data]}]}
        if path.startswith("/v2")
        else {"instances": [data]}
    )
    response = await served.client.post(path, content=json.dumps(image | body))
    assert response.status_code == 200
    priority = body["parameters"]["priority"]
    counted = {"priority": str(priority if priority <= 2 else 1), "outcome": "accepted"}
    assert await served.metric("rcnn_priority_requests_total", **counted) == 1


async def test_routes_that_have_no_such_option_take_the_header(served: Served) -> None:
    response = await served.client.put("/predictions/fake", content=picture(), headers={"X-Priority": "2"})
    assert response.status_code == 200
    counted = {"priority": "2", "outcome": "accepted"}
    assert await served.metric("rcnn_priority_requests_total", **counted) == 1


@pytest.mark.parametrize("value", ["3", "-1", "high", "1.5", ""])
async def test_an_invalid_priority_is_rejected_by_name(served: Served, value: str) -> None:
    for query, headers in ((f"priority={value}", {}), ("", {"x-priority": value})):
        response = await detect(served, 64, query, **headers)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
        assert "priority" in response.json()["detail"].lower()


async def test_a_full_queue_sheds_the_newest_of_the_lowest_for_a_higher_one(serve: Serve) -> None:
    async with serve(held(), max_queue=4) as served:
        tasks = {"first": await occupied(served)}
        for depth, (name, priority) in enumerate([("old", 0), ("new", 0), ("normal", 1)]):
            tasks[name] = detect(served, 200 + 64 * depth, f"priority={priority}")
            await waiting(served, depth + 1)
        tasks["high"] = detect(served, 456, "priority=2")
        shed = await tasks.pop("new")
        assert (shed.status_code, shed.json()["code"]) == (429, "overloaded")
        assert int(shed.headers["retry-after"]) >= 1
        assert "higher priority" in shed.json()["detail"]
        await waiting(served, 3)
        served.detector.free.set()
        assert [(await task).status_code for task in tasks.values()] == [200] * 4
        assert [width for width, _ in served.detector.reached[1:]] == [456, 328, 200]
        counted = {"priority": "0", "outcome": "shed"}
        assert await served.metric("rcnn_priority_requests_total", **counted) == 1
        assert await served.metric("rcnn_in_flight") == 0


KEY = {"x-api-key": "secret"}
JSON_IMAGE = json.dumps({"image": {"type": "base64", "value": base64.b64encode(picture()).decode()}})
REFUSED: dict[str, tuple[str, dict[str, Any], int]] = {
    "no key (DeepStack)": ("/v1/vision/detection", {"files": {"image": picture()}}, 401),
    "no key (Roboflow)": ("/infer/object_detection", {"content": JSON_IMAGE}, 401),
    "another model": ("/predictions/other", {"content": picture(), "headers": KEY}, 404),
    "unknown option": ("/detect?nonsense=1", {"content": picture(), "headers": KEY | PNG}, 422),
    "unknown class": ("/detect?classes=nonsense", {"content": picture(), "headers": KEY | PNG}, 422),
    "unknown class in the body": (
        "/v1/models/fake:predict",
        {"content": json.dumps({"instances": ["AA=="], "parameters": {"classes": ["none"]}}), "headers": KEY},
        422,
    ),
    "unknown media type": ("/detect", {"content": b"x", "headers": KEY | {"content-type": "text/css"}}, 415),
    "damaged image": ("/detect", {"content": picture()[:60], "headers": KEY | PNG}, 400),
    "damaged image in a batch": ("/detect/batch", {"files": {"image": b"GIF89a"}, "headers": KEY}, 200),
    "too many pixels": ("/detect", {"content": picture(2000, 2000), "headers": KEY | PNG}, 413),
    "too short a time": ("/detect?timeout_ms=999999999", {"content": picture(), "headers": KEY | PNG}, 422),
}


@pytest.mark.parametrize(("url", "sent", "status"), REFUSED.values(), ids=REFUSED)
async def test_a_refused_request_of_the_highest_priority_sheds_nothing(
    serve: Serve, url: str, sent: dict[str, Any], status: int
) -> None:
    async with serve(held(), max_queue=3, api_keys="secret", max_pixels=1_000_000) as served:
        first = detect(served, 100, **KEY)
        await eventually(lambda: bool(served.detector.batches), "the device is busy")
        lower = [detect(served, 200, "priority=0", **KEY) for _ in range(2)]
        await waiting(served, 2)
        headers = {"x-priority": "2"} | sent.get("headers", {})
        refused = await served.client.post(url, **sent | {"headers": headers})
        assert refused.status_code == status
        assert served.app.state.service.queue_depth == 2
        served.detector.free.set()
        assert [(await task).status_code for task in (first, *lower)] == [200] * 3


async def test_a_full_queue_of_equals_rejects_the_next_request(serve: Serve) -> None:
    async with serve(held(), max_queue=2) as served:
        served.app.state.service._admission.wait_seconds = 0
        tasks = [await occupied(served), detect(served, 200)]
        await waiting(served, 1)
        rejected = await detect(served, 264)
        assert (rejected.status_code, rejected.json()["code"]) == (429, "overloaded")
        assert served.app.state.service.queue_depth == 1
        served.detector.free.set()
        assert [(await task).status_code for task in tasks] == [200, 200]
        counted = {"priority": "1", "outcome": "refused"}
        assert await served.metric("rcnn_priority_requests_total", **counted) == 1


async def test_an_image_in_tiles_is_shed_as_a_whole(serve: Serve) -> None:
    async with serve(held(), max_queue=8) as served:
        first = await occupied(served)
        admission = served.app.state.service._admission
        tiled = detect(served, 300, "priority=0&tile=128")
        await eventually(lambda: served.app.state.service.queue_depth >= 3, "its tiles wait")
        tiles = admission.slots - 1
        others = [detect(served, 400, "priority=1") for _ in range(8 - 1 - tiles)]
        await eventually(lambda: admission.slots >= 8, "no slot is free")
        high = detect(served, 456, "priority=2")
        assert (await tiled).status_code == 429
        await waiting(served, len(others) + 1)
        served.detector.free.set()
        assert [(await task).status_code for task in (first, high, *others)] == [200] * (2 + len(others))
        counted = {"priority": "0", "outcome": "shed"}
        assert await served.metric("rcnn_priority_requests_total", **counted) == 1
        assert admission.slots == 0
