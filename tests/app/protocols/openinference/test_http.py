"""The Open Inference Protocol V2 over HTTP: tensors in JSON, parameters, metadata, readiness."""

from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.fakes import FakeDetector, picture
from tests.support.protocols import FOUND, KITE, PROTOCOLS, TEXT, encoded, openinference_objects, tensor
from tests.support.served import Serve, Served

INFER = "/v2/models/fake/infer"
refused = PROTOCOLS["openinference"].refused
LENGTH = "Inference-Header-Content-Length"
PIXELS = np.arange(2 * 48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 48, 64, 3)


async def infer(served: Served, *inputs: Any, **body: Any) -> httpx.Response:
    return await served.client.post(INFER, json={"inputs": inputs or [tensor(TEXT)]} | body)


def pixels(array: Any, **others: Any) -> dict[str, Any]:
    return {"name": "images", "datatype": "UINT8", "shape": array.shape, "data": array.tolist()} | others


# tensors in JSON


async def test_outputs_are_padded_to_the_largest_count(served: Served) -> None:
    answer = (await infer(served, tensor(TEXT, TEXT), id="7", parameters={"score_threshold": 0.1})).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "fake", "1")
    described = {one["name"]: (one["datatype"], one["shape"]) for one in answer["outputs"]}
    assert described == {
        "boxes": ("FP32", [2, 3, 4]),
        "labels": ("INT64", [2, 3]),
        "scores": ("FP32", [2, 3]),
        "num_detections": ("INT32", [2]),
    }
    assert openinference_objects(answer) == [*FOUND, (*KITE[:2], pytest.approx(KITE[2], abs=0.001))]


async def test_an_image_with_fewer_detections_is_padded_with_zeros(served: Served) -> None:
    served.detector.finds = lambda job: 1 if job.canvas.image_size[0] == 99 else 3
    answer = (await infer(served, tensor(TEXT, encoded(picture(77, 99))))).json()
    found = {one["name"]: one for one in answer["outputs"]}
    assert found["num_detections"]["data"] == [2, 1]
    assert found["labels"]["data"] == [1, 2, 1, 0]
    assert found["scores"]["data"] == [0.9375, 0.75, 0.9375, 0.0]
    assert found["boxes"]["data"][12:] == [0.0] * 4


async def test_pixels_reach_the_detector_as_sent(served: Served) -> None:
    for data in (PIXELS.tolist(), PIXELS.ravel().tolist()):
        answer = (await infer(served, pixels(PIXELS, data=data))).json()
        assert openinference_objects(answer) == FOUND
    assert served.detector.prepared == [(48, 64)] * 4
    assert sorted(served.detector.rows) == sorted(image[0].tobytes() for image in (*PIXELS, *PIXELS))


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
    refused(await infer(served, parameters={"timeout": 100_000}), 504)


async def test_the_servers_timeout_bounds_that_of_a_request(serve: Serve) -> None:
    async with serve(timeout_ms=200) as served:
        served.detector.free.clear()
        refused(await infer(served, parameters={"timeout": 60_000_000}), 504)


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
    "pixels below zero": {"inputs": [pixels(PIXELS.astype(int) - 1)]},
    "fractions of pixels": {"inputs": [pixels(PIXELS / 2)]},
    "ragged pixels": {"inputs": [pixels(PIXELS, data=[[1], [1, 2]])]},
    "texts for pixels": {"inputs": [pixels(PIXELS, data=["1"])]},
    "huge numbers": {"inputs": [pixels(PIXELS, data=[10**30])]},
    "another output": {"outputs": [{"name": "masks"}]},
    "classification": {"outputs": [{"name": "scores", "parameters": {"classification": 2}}]},
    "shared memory": {"inputs": [tensor(TEXT, parameters={"shared_memory_region": "a"})]},
    "a parameter out of range": {"parameters": {"score_threshold": 2}},
    "a priority out of range": {"parameters": {"priority": 2**64}},
    "an unknown class": {"parameters": {"classes": "unicorn"}},
    "a timeout out of range": {"parameters": {"timeout_ms": 600_001}},
    "data in JSON and binary": {"inputs": [tensor(TEXT, parameters={"binary_data_size": 3})]},
}


async def test_a_wrong_request_is_refused_with_its_reason(served: Served) -> None:
    for name, body in WRONG.items():
        response = await served.client.post(INFER, json={"inputs": [tensor(TEXT)]} | body)
        assert refused(response, 422), name
    assert served.detector.prepared == []


async def test_pixels_are_bounded_as_files_are(serve: Serve) -> None:
    async with serve(max_pixels=4096) as served:
        refused(await infer(served, pixels(np.zeros((1, 65, 64, 3), np.uint8))), 413)
        assert await served.metric("rcnn_rejected_total", code="image_too_large") == 1
        refused(await infer(served, pixels(np.zeros((1, 0, 64, 3), np.uint8))), 400)


# metadata and readiness


async def test_the_metadata_describe_the_server_and_its_model(served: Served) -> None:
    answer = (await served.client.get("/v2")).json()
    assert answer["name"] == "rcnn-serve"
    assert "binary_tensor_data" in answer["extensions"]
    for path in ("/v2/models/fake", "/v2/models/fake/versions/1"):
        answer = (await served.client.get(path)).json()
        assert (answer["name"], answer["versions"]) == ("fake", ["1"])
        shapes = {tensor["name"]: tensor["shape"] for tensor in answer["inputs"]}
        assert shapes == {"image": [-1], "images": [-1, -1, -1, 3]}
        config = (await served.client.get(f"{path}/config")).json()
        assert (config["name"], config["max_batch_size"]) == ("fake", 32)
        assert (await served.client.get(f"{path}/ready")).json() == {"name": "fake", "ready": True}
    for path in ("/v2/models/yolo", "/v2/models/fake/versions/2"):
        for rest in ("", "/ready", "/config"):
            refused(await served.client.get(path + rest), 404)
        refused(await served.client.post(f"{path}/infer", json={}), 404)


async def test_readiness_follows_loading_and_drain(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    described = ("/v2/models/fake", "/v2/models/fake/config")
    ready = ("/v2/health/ready", "/v2/models/fake/ready")
    async with serve(detector, ready=False) as served:
        assert (await served.client.get("/v2/health/live")).json() == {"live": True}
        for path in (*described, *ready):
            response = await served.client.get(path)
            refused(response, 503)
            assert int(response.headers["retry-after"]) >= 1
        detector.warm.set()
        await served.ready()
        assert (await served.client.get("/v2/health/ready")).json() == {"ready": True}
        served.app.state.service.drain()
        for path in ready:
            refused(await served.client.get(path), 503)


async def test_only_the_health_routes_need_no_key(serve: Serve) -> None:
    async with serve(api_keys="secret") as served:
        for path in ("/v2", "/v2/models/fake", "/v2/models/fake/ready"):
            refused(await served.client.get(path), 401)
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert (await served.client.get(path)).status_code == 200
