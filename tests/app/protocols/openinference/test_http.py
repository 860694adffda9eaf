"""The Open Inference Protocol V2 over HTTP: tensors in JSON and binary, parameters, compressed bodies."""

import base64
import gzip
import json
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.asgi_request import AsgiRequest
from tests.support.fakes import FakeDetector, picture
from tests.support.protocols import FOUND, KITE, PNG, TEXT, openinference_objects, tensor
from tests.support.served import Serve, Served, eventually

INFER = "/v2/models/fake/infer"
LENGTH = "Inference-Header-Content-Length"
PIXELS = np.arange(2 * 48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 48, 64, 3)


async def infer(served: Served, *inputs: Any, **body: Any) -> httpx.Response:
    return await served.client.post(INFER, json={"inputs": inputs or [tensor(TEXT)]} | body)


def pixels(array: Any, **others: Any) -> dict[str, Any]:
    return {"name": "images", "datatype": "UINT8", "shape": array.shape, "data": array.tolist()} | others


def close(found: list[Any], expected: list[Any]) -> None:
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    for (*_, box), (*_, other) in zip(found, expected, strict=True):
        assert box == pytest.approx(other, abs=0.001)


# tensors in JSON


async def test_outputs_are_padded_to_the_most_of_an_image(served: Served) -> None:
    answer = (await infer(served, tensor(TEXT, TEXT), id="7", parameters={"score_threshold": 0.1})).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "fake", "1")
    described = {one["name"]: (one["datatype"], one["shape"]) for one in answer["outputs"]}
    assert described == {
        "boxes": ("FP32", [2, 3, 4]),
        "labels": ("INT64", [2, 3]),
        "scores": ("FP32", [2, 3]),
        "num_detections": ("INT32", [2]),
    }
    close(openinference_objects(answer), [*FOUND, KITE])


async def test_what_an_image_lacks_is_nought(served: Served) -> None:
    served.detector.finds = lambda job: 1 if job.canvas.image_size[0] == 99 else 3
    answer = (await infer(served, tensor(TEXT, as_text(picture(77, 99))))).json()
    found = {one["name"]: one for one in answer["outputs"]}
    assert found["num_detections"]["data"] == [2, 1]
    assert found["labels"]["data"] == [1, 2, 1, 0]
    assert found["scores"]["data"] == [0.9375, 0.75, 0.9375, 0.0]
    assert found["boxes"]["data"][12:] == [0.0] * 4


async def test_nothing_found_is_an_answer(served: Served) -> None:
    answer = (await infer(served, parameters={"score_threshold": 1})).json()
    assert [(one["shape"], one["data"]) for one in answer["outputs"]] == [
        ([1, 0, 4], []),
        ([1, 0], []),
        ([1, 0], []),
        ([1], [0]),
    ]


@pytest.mark.parametrize("flat", [False, True])
async def test_pixels_are_detected_as_files_of_them_are(served: Served, flat: bool) -> None:
    data = PIXELS.reshape(-1) if flat else PIXELS
    answer = (await infer(served, pixels(data, shape=PIXELS.shape))).json()
    assert served.detector.prepared == [(48, 64)] * 2
    close(openinference_objects(answer), FOUND)


async def test_the_pixels_reach_the_detector_as_sent(served: Served) -> None:
    await infer(served, pixels(PIXELS))
    assert sorted(served.detector.rows) == sorted(image[0].tobytes() for image in PIXELS)


async def test_outputs_may_be_chosen(served: Served) -> None:
    answer = (await infer(served, outputs=[{"name": "scores"}, {"name": "labels"}])).json()
    assert [one["name"] for one in answer["outputs"]] == ["scores", "labels"]
    assert "id" not in answer


async def test_the_options_of_detect_are_parameters(served: Served) -> None:
    parameters = {
        "score_threshold": 0.25,
        "nms_threshold": 0.75,
        "max_detections": 7,
        "class_agnostic": True,
        "classes": "disc,KITE",
        "box_format": "xywh",
        "normalized": True,
        "priority": 2**64 - 1,
        "timeout": 5_000_000,
        "sequence_id": 0,
    }
    answer = (await infer(served, parameters=parameters)).json()
    options = served.detector.batches[-1][0].options
    assert (options.score_threshold, options.nms_threshold, options.max_detections) == (0.25, 0.75, 7)
    assert (options.classes, options.class_agnostic) == (frozenset({2, 4}), True)
    assert answer["outputs"][0]["data"][:4] == [0.25, 0.25, 0.75, 0.25]


async def test_the_timeout_is_in_microseconds(served: Served) -> None:
    served.detector.free.clear()
    response = await infer(served, parameters={"timeout": 100_000})
    assert (response.status_code, list(response.json())) == (504, ["error"])


async def test_a_longer_timeout_than_the_servers_is_the_servers(serve: Serve) -> None:
    async with serve(timeout_ms=200) as served:
        served.detector.free.clear()
        assert (await infer(served, parameters={"timeout": 60_000_000})).status_code == 504


WRONG: dict[str, dict[str, Any]] = {
    "no inputs": {"inputs": []},
    "another input": {"inputs": [tensor(TEXT, name="picture")]},
    "both inputs": {"inputs": [tensor(TEXT), pixels(PIXELS)]},
    "files of numbers": {"inputs": [tensor(TEXT, datatype="UINT8")]},
    "a shape for fewer": {"inputs": [tensor(TEXT, TEXT, shape=[1])]},
    "a shape for more": {"inputs": [tensor(TEXT, shape=[2])]},
    "no shape": {"inputs": [tensor(TEXT, shape=[])]},
    "too many": {"inputs": [tensor(*[TEXT] * 33)]},
    "a negative shape": {"inputs": [tensor(TEXT, shape=[-1])]},
    "no image": {"inputs": [tensor(shape=[0])]},
    "not base64": {"inputs": [tensor("?")]},
    "a number for a file": {"inputs": [tensor(1)]},
    "no content": {"inputs": [tensor(data=None)]},
    "pixels of the wrong rank": {"inputs": [pixels(PIXELS[0])]},
    "grey pixels": {"inputs": [pixels(PIXELS[..., :1])]},
    "pixels too few": {"inputs": [pixels(PIXELS, shape=[3, 48, 64, 3])]},
    "pixels too bright": {"inputs": [pixels(PIXELS.astype(int) + 1)]},
    "pixels below nought": {"inputs": [pixels(PIXELS.astype(int) - 1)]},
    "fractions of pixels": {"inputs": [pixels(PIXELS / 2)]},
    "ragged pixels": {"inputs": [pixels(PIXELS, data=[[1], [1, 2]])]},
    "texts for pixels": {"inputs": [pixels(PIXELS, data=["1"])]},
    "huge numbers": {"inputs": [pixels(PIXELS, data=[10**30])]},
    "another output": {"outputs": [{"name": "masks"}]},
    "classification": {"outputs": [{"name": "scores", "parameters": {"classification": 2}}]},
    "shared memory": {"inputs": [tensor(TEXT, parameters={"shared_memory_region": "a"})]},
    "an unknown parameter": {"parameters": {"threshold": 0.5}},
    "a parameter out of range": {"parameters": {"score_threshold": 2}},
    "a priority out of range": {"parameters": {"priority": 2**64}},
    "an unknown class": {"parameters": {"classes": "unicorn"}},
    "more time than there is": {"parameters": {"timeout_ms": 600_001}},
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
async def test_a_wrong_request_is_refused_with_its_reason(served: Served, body: dict[str, Any]) -> None:
    response = await served.client.post(INFER, json={"inputs": [tensor(TEXT)]} | body)
    assert (response.status_code, list(response.json())) == (422, ["error"]), response.text
    assert served.detector.prepared == []


async def test_pixels_are_bounded_as_files_are(serve: Serve) -> None:
    async with serve(max_pixels=4096) as served:
        response = await infer(served, pixels(np.zeros((1, 65, 64, 3), np.uint8)))
        assert (response.status_code, list(response.json())) == (413, ["error"])
        assert await served.metric("rcnn_rejected_total", code="image_too_large") == 1
        empty = await infer(served, pixels(np.zeros((1, 0, 64, 3), np.uint8)))
        assert (empty.status_code, list(empty.json())) == (400, ["error"])


# binary data


def binary(*files: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(file)) + file for file in files)


async def post_binary(
    served: Served, data: bytes, length: str | None = None, encode: Any = bytes, **body: Any
) -> httpx.Response:
    one = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    text = json.dumps({"inputs": [one]} | body).encode()
    headers = {LENGTH: str(len(text)) if length is None else length}
    if encode is not bytes:
        headers["Content-Encoding"] = "gzip" if encode is gzip.compress else "deflate"
    return await served.client.post(INFER, content=encode(text + data), headers=headers)


def read_binary(response: httpx.Response) -> dict[str, Any]:
    """The outputs' arrays, as tritonclient reads them."""
    assert response.status_code == 200, response.text
    end = int(response.headers[LENGTH])
    arrays = {}
    kinds = {"FP32": "<f4", "INT64": "<i8", "INT32": "<i4"}
    rest = response.content[end:]
    for one in json.loads(response.content[:end])["outputs"]:
        if "data" in one:
            arrays[one["name"]] = np.array(one["data"]).reshape(one["shape"])
            continue
        size = one["parameters"]["binary_data_size"]
        arrays[one["name"]] = np.frombuffer(rest[:size], kinds[one["datatype"]]).reshape(one["shape"])
        rest = rest[size:]
    assert rest == b""
    return arrays


async def test_binary_data_come_and_go(served: Served) -> None:
    response = await post_binary(served, binary(PNG), parameters={"binary_data_output": True})
    assert response.headers["content-type"] == "application/octet-stream"
    arrays = read_binary(response)
    assert arrays["labels"].tolist() == [[1, 2]]
    assert arrays["scores"].tolist() == [[0.9375, 0.75]]
    assert arrays["boxes"][0].tolist() == [box for *_, box in FOUND]
    assert arrays["num_detections"].tolist() == [2]


async def test_each_output_may_be_binary_or_not(served: Served) -> None:
    outputs = [{"name": "boxes", "parameters": {"binary_data": True}}, {"name": "labels"}]
    arrays = read_binary(await post_binary(served, binary(PNG), outputs=outputs))
    assert list(arrays) == ["boxes", "labels"]
    response = await post_binary(
        served,
        binary(PNG),
        outputs=[{"name": "boxes", "parameters": {"binary_data": False}}],
        parameters={"binary_data_output": True},
    )
    assert LENGTH not in response.headers
    assert response.json()["outputs"][0]["data"][:4] == [8.0, 12.0, 32.0, 36.0]


async def test_a_body_that_is_an_image_needs_no_json(served: Served) -> None:
    response = await served.client.post(INFER, content=PNG, headers={LENGTH: "0"})
    close(openinference_objects(response.json()), FOUND)


BROKEN: dict[str, dict[str, Any]] = {
    "more than is told of": {"data": binary(PNG) + b"x", "told": -1},
    "less than is told of": {"data": binary(PNG), "told": 1},
    "an element that does not end": {"data": binary(PNG)[:-1]},
    "a length that does not end": {"data": b"\x01\x00"},
    "an element too many": {"data": binary(PNG, PNG)},
    "a length that is no number": {"data": binary(PNG), "length": "-1"},
    "a length beyond the body": {"data": binary(PNG), "length": "99999999999"},
    "a length within the JSON": {"data": binary(PNG), "length": "10"},
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN)
async def test_broken_binary_data_are_refused(served: Served, case: dict[str, Any]) -> None:
    told = len(case["data"]) + case.get("told", 0)
    one = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": told}}
    body = {"data": case["data"], "length": case.get("length"), "inputs": [one]}
    response = await post_binary(served, **body)
    assert (response.status_code, list(response.json())) == (422, ["error"]), response.text
    assert served.detector.prepared == []


async def test_input_data_and_binary_data_exclude_each_other(served: Served) -> None:
    response = await infer(served, tensor(TEXT, parameters={"binary_data_size": 3}))
    assert response.status_code == 422


# compressed bodies


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress])
async def test_a_body_may_be_compressed(served: Served, encode: Any) -> None:
    arrays = read_binary(
        await post_binary(served, binary(PNG), encode=encode, parameters={"binary_data_output": True})
    )
    assert arrays["labels"].tolist() == [[1, 2]]


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress])
async def test_a_bomb_is_refused_as_soon_as_it_is_too_large(serve: Serve, encode: Any) -> None:
    async with serve(max_body_bytes=1_000_000) as served:
        bomb = encode(bytes(500_000_000))
        assert len(bomb) < 1_000_000
        encoding = "gzip" if encode is gzip.compress else "deflate"
        response = await served.client.post(INFER, content=bomb, headers={"Content-Encoding": encoding})
        assert (response.status_code, list(response.json())) == (413, ["error"])
        assert await served.metric("rcnn_rejected_total", code="body_too_large") == 1


async def test_what_a_body_inflates_to_counts_for_all_of_them(serve: Serve) -> None:
    """Two bodies of half the bytes allowed in total fit while they are compressed, and not inflated."""
    async with serve(max_queue_bytes=1 << 20, max_body_bytes=1 << 20) as served:
        half = gzip.compress(bytes(600_000))
        headers = {"Content-Encoding": "gzip", "Content-Length": str(len(half) + 1)}
        callers = [AsgiRequest(served.app, INFER, headers) for _ in range(2)]
        for caller in callers:
            caller.send(half, more=True)
        await eventually(lambda: {one.status for one in callers} == {429, None}, "one of them is refused")
        for caller in callers:
            caller.leave()
            await caller.ended()


DAMAGED = {
    "no gzip": b"no gzip at all",
    "cut short": gzip.compress(PNG)[:-9],
    "something behind it": gzip.compress(b"{}") + b"x",
    "nothing": b"",
}


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
async def test_a_damaged_body_is_refused(served: Served, body: bytes) -> None:
    response = await served.client.post(INFER, content=body, headers={"Content-Encoding": "gzip"})
    assert (response.status_code, list(response.json())) == (422, ["error"])


async def test_another_coding_is_refused(served: Served) -> None:
    response = await served.client.post(INFER, content=PNG, headers={"Content-Encoding": "br"})
    assert (response.status_code, list(response.json())) == (415, ["error"])
    assert "gzip or deflate" in response.json()["error"]


ACCEPTED = {"gzip": "gzip", "deflate": "deflate", "gzip;q=0, deflate": "deflate", "identity": None, "": None}


@pytest.mark.parametrize(("accept", "coding"), ACCEPTED.items())
async def test_a_large_answer_is_compressed_as_the_client_likes_it(
    served: Served, accept: str, coding: str | None
) -> None:
    body = {"inputs": [tensor(*[TEXT] * 20)]}
    response = await served.client.post(INFER, json=body, headers={"Accept-Encoding": accept})
    assert response.headers.get("content-encoding") == coding
    assert response.headers["vary"] == "Accept-Encoding"
    assert len(response.json()["outputs"]) == 4


# metadata and readiness


@pytest.mark.parametrize("path", ["/v2/models/fake", "/v2/models/fake/versions/1"])
async def test_a_model_tells_its_tensors(served: Served, path: str) -> None:
    answer = (await served.client.get(path)).json()
    assert (answer["name"], answer["versions"]) == ("fake", ["1"])
    assert {one["name"]: one["shape"] for one in answer["inputs"]} == {
        "image": [-1],
        "images": [-1, -1, -1, 3],
    }
    config = (await served.client.get(f"{path}/config")).json()
    assert (config["name"], config["max_batch_size"]) == ("fake", 32)
    assert (await served.client.get(f"{path}/ready")).json() == {"name": "fake", "ready": True}


@pytest.mark.parametrize("path", ["/v2/models/yolo", "/v2/models/fake/versions/2"])
async def test_another_model_or_version_is_not_found(served: Served, path: str) -> None:
    for rest in ("", "/ready", "/config"):
        response = await served.client.get(path + rest)
        assert (response.status_code, list(response.json())) == (404, ["error"])
    assert (await served.client.post(f"{path}/infer", json={})).status_code == 404


async def test_the_server_tells_what_it_is(served: Served) -> None:
    answer = (await served.client.get("/v2")).json()
    assert answer["name"] == "rcnn-serve"
    assert "binary_tensor_data" in answer["extensions"]


async def test_readiness_before_there_is_a_model(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        assert (await served.client.get("/v2/health/live")).json() == {"live": True}
        for path in (
            "/v2/health/ready",
            "/v2/models/fake",
            "/v2/models/fake/ready",
            "/v2/models/fake/config",
        ):
            response = await served.client.get(path)
            assert (response.status_code, list(response.json())) == (503, ["error"]), path
            assert int(response.headers["retry-after"]) >= 1
        detector.warm.set()
        await served.ready()
        assert (await served.client.get("/v2/health/ready")).json() == {"ready": True}


async def test_only_probes_are_open_where_there_are_keys(serve: Serve) -> None:
    async with serve(api_keys="secret") as served:
        for path in ("/v2", "/v2/models/fake", "/v2/models/fake/ready"):
            assert (await served.client.get(path)).status_code == 401
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert (await served.client.get(path)).status_code == 200


async def test_a_service_that_drains_is_not_ready(served: Served) -> None:
    served.app.state.service.drain()
    for path in ("/v2/health/ready", "/v2/models/fake/ready"):
        assert (await served.client.get(path)).status_code == 503


def as_text(image: bytes) -> str:
    return base64.b64encode(image).decode()
