"""KServe's V1 protocol: instances in base64, predictions in their order, a model's readiness."""

import base64
from typing import Any

import pytest

from tests.support.fakes import FakeDetector, picture
from tests.support.protocols import PNG, TEXT, detected
from tests.support.served import Serve, Served

PREDICT = "/v1/models/fake:predict"

# kserve 0.15 (python/kserve/kserve/protocol/rest/v1_endpoints.py) hands instances to the model as they are;
# {"b64": …} is TensorFlow Serving's word for bytes, "data" that of TorchServe behind KServe.
INSTANCES: dict[str, Any] = {
    "b64": {"b64": TEXT},
    "a text": TEXT,
    "data": {"data": TEXT},
    "image": {"image": TEXT},
    "image with b64": {"image": {"b64": TEXT}},
    "image_bytes with b64": {"image_bytes": {"b64": TEXT}, "key": "1"},
    "a data URL": {"b64": f"data:image/png;base64,{TEXT}"},
}


@pytest.mark.parametrize("instance", INSTANCES.values(), ids=INSTANCES)
async def test_an_instance_is_taken_in_every_usual_form(served: Served, instance: Any) -> None:
    response = await served.client.post(PREDICT, json={"instances": [instance]})
    assert response.status_code == 200, response.text
    [prediction] = response.json()["predictions"]
    found = list(zip(prediction["names"], prediction["scores"], prediction["boxes"], strict=True))
    assert found == await detected(served)
    assert prediction["image"] == {"width": 64, "height": 48}


async def test_predictions_are_what_detect_answers(served: Served) -> None:
    parameters = {"score_threshold": 0, "box_format": "xywh", "normalized": True, "classes": ["2", "kite"]}
    body = {"instances": [TEXT], "parameters": parameters}
    [prediction] = (await served.client.post(PREDICT, json=body)).json()["predictions"]
    query = "score_threshold=0&box_format=xywh&normalized=true&classes=2,kite"
    alone = await served.client.post(f"/detect?{query}", content=PNG, headers={"Content-Type": "image/png"})
    expected = alone.json()
    for answer in (prediction, expected):
        del answer["timings_ms"], answer["request_id"]
    assert prediction == expected
    assert prediction["names"] == ["disc", "kite"]


async def test_many_instances_come_back_in_order(served: Served) -> None:
    sizes = [(50 + index, 40) for index in range(32)]
    instances = [{"b64": base64.b64encode(picture(*size)).decode()} for size in sizes]
    answer = (await served.client.post(PREDICT, json={"instances": instances})).json()
    assert [(one["image"]["width"], one["image"]["height"]) for one in answer["predictions"]] == sizes


async def test_an_instance_that_fails_fails_the_request(served: Served) -> None:
    response = await served.client.post(PREDICT, json={"instances": [TEXT, {"b64": "bm8gaW1hZ2U="}]})
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert await served.metric("rcnn_rejected_total", code="invalid_image") == 1
    assert await served.metric("rcnn_in_flight") == 0


WRONG: dict[str, Any] = {
    "no instances": {},
    "an empty list": {"instances": []},
    "too many": {"instances": [TEXT] * 33},
    "a number": {"instances": [1]},
    "no key of ours": {"instances": [{"tensor": TEXT}]},
    "a list of numbers": {"instances": [{"image": [1, 2]}]},
    "not base64": {"instances": [{"b64": "?"}]},
    "an unknown parameter": {"instances": [TEXT], "parameters": {"threshold": 0.5}},
    "a parameter out of range": {"instances": [TEXT], "parameters": {"score_threshold": 2}},
    "an unknown class": {"instances": [TEXT], "parameters": {"classes": ["unicorn"]}},
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
async def test_a_wrong_request_is_refused_with_its_reason(served: Served, body: Any) -> None:
    response = await served.client.post(PREDICT, json=body)
    assert response.status_code == 422, response.text
    assert list(response.json()) == ["error"]
    assert served.detector.prepared == []


async def test_the_time_may_be_shortened(served: Served) -> None:
    served.detector.free.clear()
    body = {"instances": [TEXT], "parameters": {"timeout_ms": 100}}
    response = await served.client.post(PREDICT, json=body)
    assert (response.status_code, list(response.json())) == (504, ["error"])


async def test_models_are_listed_and_asked_for(served: Served) -> None:
    assert (await served.client.get("/v1/models")).json() == {"models": ["fake"]}
    response = await served.client.get("/v1/models/fake")
    assert (response.status_code, response.json()) == (200, {"name": "fake", "ready": True})
    other = await served.client.get("/v1/models/yolo")
    assert (other.status_code, list(other.json())) == (404, ["error"])
    assert "'fake'" in other.json()["error"]


async def test_a_model_that_loads_is_not_ready(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        assert (await served.client.get("/v1/models")).json() == {"models": []}
        response = await served.client.get("/v1/models/fake")
        assert (response.status_code, list(response.json())) == (503, ["error"])
        detector.warm.set()
        await served.ready()


async def test_the_names_of_models_need_a_key_where_there_are_keys(serve: Serve) -> None:
    async with serve(api_keys="secret") as served:
        for path in ("/v1/models", "/v1/models/fake"):
            response = await served.client.get(path)
            assert (response.status_code, list(response.json())) == (401, ["error"])


async def test_a_verb_is_no_model(served: Served) -> None:
    asked = await served.client.get("/v1/models/fake:predict")
    assert (asked.status_code, asked.headers["Allow"]) == (405, "POST")
    named = await served.client.post("/v1/models/fake")
    assert (named.status_code, named.headers["Allow"]) == (405, "GET")
