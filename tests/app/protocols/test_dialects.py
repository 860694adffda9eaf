"""What all drop-in protocols share with /detect: the same detections, limits, keys, deadlines and metrics."""

import asyncio
import gzip
import json
import logging
from typing import Any

import pytest

from tests.support.asgi_request import AsgiRequest
from tests.support.fakes import FakeDetector, picture
from tests.support.protocols import PNG, PROTOCOLS, Protocol, detected, whole
from tests.support.served import Serve, Served, eventually

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


async def hold(served: Served) -> asyncio.Task[Any]:
    """Keep the device busy; `detector.free` lets it go on."""
    served.detector.free.clear()
    first = asyncio.create_task(detected(served))
    await eventually(lambda: len(served.detector.batches) == 1, "the first request is on the device")
    return first


# the answer


@every_protocol
async def test_the_detections_are_those_of_detect(served: Served, protocol: Protocol) -> None:
    for image in (PNG, picture(311, 97), picture(50, 333, "JPEG")):
        expected = await detected(served, image=image)
        response = await protocol.post(served, image)
        assert response.status_code == 200, response.text
        found = protocol.objects(response.json())
        expected = whole(expected) if protocol.whole_pixels else expected
        assert [one[:2] for one in found] == [one[:2] for one in expected]
        for (*_, box), (*_, other) in zip(found, expected, strict=True):
            assert box == pytest.approx(other, abs=0.001)  # half a width, rounded
        assert response.headers["content-type"] == "application/json"
        assert int(response.headers["content-length"]) == len(response.content)
        assert "transfer-encoding" not in response.headers
    assert await served.metric("rcnn_requests_total", route=protocol.route, status="200") == 3


# refusals, each in the protocol's own shape and counted by its code


@every_protocol
async def test_a_refusal_has_the_shape_of_the_protocol(
    serve: Serve, protocol: Protocol, caplog: pytest.LogCaptureFixture
) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    key = {"Authorization": "Bearer beta"}
    async with serve(detector, ready=False, api_keys="alpha,beta", max_pixels=4096) as served:
        response = await protocol.post(served, **key)
        protocol.refused(response, 503)
        assert int(response.headers["retry-after"]) >= 1
        detector.warm.set()
        await served.ready()
        response = await protocol.post(served)
        assert "no key" in protocol.refused(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
        assert "not valid" in protocol.refused(await protocol.post(served, Authorization="Bearer a"), 401)
        protocol.refused(await protocol.post(served, b"no image", **key), 400)
        protocol.refused(await protocol.post(served, picture(65, 64), **key), 413)
        assert served.detector.prepared == []
        served.detector.poison = lambda job: RuntimeError("SECRET")
        with caplog.at_level(logging.ERROR):
            assert "SECRET" not in protocol.refused(await protocol.post(served, **key), 500)
        assert any("SECRET" in str(record.exc_info) for record in caplog.records)
        served.detector.poison = lambda job: None
        assert (await protocol.post(served, **{"X-API-Key": "alpha"})).status_code == 200
        codes = {"loading": 1, "unauthorized": 2, "invalid_image": 1, "image_too_large": 1, "internal": 1}
        for code, count in codes.items():
            assert await served.metric("rcnn_rejected_total", code=code) == count
        assert await served.metric("rcnn_requests_total", route=protocol.route, status="400") == 1


@every_protocol
async def test_a_body_that_declares_too_many_bytes_is_refused_unread(
    serve: Serve, protocol: Protocol
) -> None:
    async with serve(max_body_bytes=2000) as served:
        content, media_type = protocol.body(bytes(2001))
        headers = {"Content-Type": media_type, "Content-Length": str(len(content))}
        request = AsgiRequest(served.app, protocol.path, headers)
        await request.answered()
        assert request.status == 413
        assert "2000 bytes" in protocol.error(request.answer, 413)
        assert await served.metric("rcnn_rejected_total", code="body_too_large") == 1


@every_protocol
async def test_a_compressed_body_behind_a_slash_is_taken(served: Served, protocol: Protocol) -> None:
    content, media_type = protocol.body(PNG)
    headers = {"Content-Type": media_type, "Content-Encoding": "gzip"}
    path = protocol.path.rstrip("/") + "/"
    response = await served.client.post(path, content=gzip.compress(content), headers=headers)
    assert len(protocol.objects(response.json())) == 2
    brotli = await protocol.post(served, **{"Content-Encoding": "br"})
    assert "gzip, deflate, zstd" in protocol.refused(brotli, 415)


@every_protocol
async def test_what_is_no_image_is_named(served: Served, protocol: Protocol) -> None:
    response = await protocol.post(served, b"<!DOCTYPE html><title>Sign in</title>")
    assert "an HTML page" in protocol.refused(response, 400)


@pytest.mark.parametrize("name", [name for name, one in PROTOCOLS.items() if one.path != "/"])  # the page's
async def test_another_method_is_refused_in_the_same_shape(served: Served, name: str) -> None:
    response = await served.client.patch(PROTOCOLS[name].path)
    PROTOCOLS[name].refused(response, 405)
    assert "POST" in response.headers["allow"]


UNKNOWN = {
    "deepstack": ("GET /v1/vision/face", "POST /v1/vision/scene/", "GET /v1/module/list/available"),
    "huggingface": ("POST /hf/facebook/detr", "POST /pipeline/object-detection"),
    "torchserve": ("POST /predictions/a/b/c", "POST /explanations/fake"),
    "kserve": ("POST /v1/models/fake/metadata", "GET /v1/models/a/b"),
    "openinference": (
        "GET /v2/trace/setting",
        "POST /v2/systemsharedmemory/region/a/share",
        "GET /v2/x/y/z",
    ),
    "roboflow": ("POST /infer/lmm", "POST /model/a/b"),
}


@pytest.mark.parametrize("name", UNKNOWN)
async def test_an_unknown_path_is_refused_in_the_shape_of_its_protocol(served: Served, name: str) -> None:
    for asked in UNKNOWN[name]:
        method, _, path = asked.partition(" ")
        response = await served.client.request(method, path)
        assert "no such path" in PROTOCOLS[name].refused(response, 404), path
    assert (await served.client.get("/v1model")).json()["code"] == "not_found"


# What all protocols do by the same function: proved for one of them.

KSERVE = PROTOCOLS["kserve"]


async def test_a_body_that_grows_too_large_is_refused(serve: Serve) -> None:
    async with serve(max_body_bytes=2000) as served:
        content, media_type = KSERVE.body(bytes(2001))
        request = AsgiRequest(served.app, KSERVE.path, {"Content-Type": media_type})
        request.send(content, more=True)
        await request.answered()
        assert request.status == 413
        KSERVE.error(request.answer, 413)


async def test_a_full_service_refuses_before_it_reads(serve: Serve) -> None:
    async with serve(max_queue=1) as served:
        first = await hold(served)
        request = AsgiRequest(served.app, KSERVE.path, {"Content-Type": KSERVE.body(PNG)[1]})
        await request.answered()  # although it has sent nothing of its body
        assert request.status == 429
        KSERVE.error(request.answer, 429)
        assert int(request.headers["retry-after"]) >= 1
        served.detector.free.set()
        await first


async def test_a_request_whose_time_runs_out_gets_504(serve: Serve) -> None:
    async with serve(timeout_ms=100) as served:
        content, media_type = KSERVE.body(PNG)
        slow = AsgiRequest(served.app, KSERVE.path, {"Content-Type": media_type})
        slow.send(content[:-10], more=True)
        await slow.answered()
        assert "did not arrive" in KSERVE.error(slow.answer, 504)
        served.detector.free.clear()
        KSERVE.refused(await KSERVE.post(served), 504)
        assert await served.metric("rcnn_rejected_total", code="deadline_exceeded") == 2


async def test_a_client_that_leaves_the_queue_never_reaches_the_detector(served: Served) -> None:
    first = await hold(served)
    content, media_type = KSERVE.body(picture(31, 33))
    request = AsgiRequest(served.app, KSERVE.path, {"Content-Type": media_type})
    request.send(content)
    await eventually(lambda: served.app.state.service.queue_depth == 1, "the second request waits")
    request.leave()
    await request.ended()
    served.detector.free.set()
    await first
    assert request.status is None
    assert (31, 33) not in served.detector.reached
    assert await served.metric("rcnn_cancelled_total") == 1
    assert await served.metric("rcnn_requests_total", route=KSERVE.route, status="499") == 1


# names

NAMED = {
    "/v1/vision/custom/{}": "deepstack custom",
    "/models/{}": "huggingface by name",
    "/hf/{}": "huggingface by name",
    "/predictions/{}": "torchserve",
    "/predictions/{}/1.0": "torchserve with a version",
    "/v1/models/{}:predict": "kserve",
    "/v2/models/{}/infer": "openinference",
    "/v2/models/{}/versions/1/infer": "openinference with a version",
}


@pytest.mark.parametrize(("path", "name"), NAMED.items())
async def test_another_model_is_refused_and_the_right_one_named(served: Served, path: str, name: str) -> None:
    protocol = PROTOCOLS[name]
    content, media_type = protocol.body(PNG)
    headers = {"Content-Type": media_type}
    response = await served.client.post(path.format("yolo"), content=content, headers=headers)
    text = protocol.refused(response, 404)
    assert "'yolo'" in text
    assert "'fake'" in text
    assert served.detector.prepared == []
    assert await served.metric("rcnn_rejected_total", code="unknown_model") == 1


async def test_all_other_routes_keep_their_problems(served: Served) -> None:
    for method, path in (("POST", "/detect"), ("GET", "/nowhere"), ("PUT", "/"), ("POST", "/labels")):
        response = await served.client.request(method, path)
        assert response.headers["content-type"] == "application/problem+json", path


# the document


@every_protocol
async def test_openapi_has_an_example_of_each_answer_and_refusal(served: Served, protocol: Protocol) -> None:
    document = (await served.client.get("/openapi.json")).json()
    operation = document["paths"][protocol.route]["post"]
    assert operation["summary"]
    assert operation["requestBody"]["content"]
    answered = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert protocol.objects(answered)
    for status, response in operation["responses"].items():
        if status in ("200", "422") and "examples" not in response["content"]["application/json"]:
            assert status == "200"
            continue
        for example in response["content"]["application/json"]["examples"].values():
            protocol.error(example["value"], int(status))
    assert {"400", "401", "413", "415", "422", "429", "500", "503", "504"} <= set(operation["responses"])
    json.dumps(document)
