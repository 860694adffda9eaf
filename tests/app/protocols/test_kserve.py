"""KServe's V1 protocol: instances in base64, predictions in their order, a model's readiness."""

import base64
from typing import Any

from tests.support.fakes import FakeDetector, picture
from tests.support.protocols import PNG, PROTOCOLS, TEXT, detected, kserve_objects
from tests.support.served import Serve, Served

PREDICT = "/v1/models/fake:predict"
refused = PROTOCOLS["kserve"].refused

# kserve 0.15 (python/kserve/kserve/protocol/rest/v1_endpoints.py) hands instances to the model as they are;
# {"b64": …} is how TensorFlow Serving writes bytes, "data" that of TorchServe behind KServe.
INSTANCES: dict[str, Any] = {
    "b64": {"b64": TEXT},
    "a text": TEXT,
    "data": {"data": TEXT},
    "image": {"image": TEXT},
    "image with b64": {"image": {"b64": TEXT}},
    "image_bytes with b64": {"image_bytes": {"b64": TEXT}, "key": "1"},
    "a data URL": {"b64": f"data:image/png;base64,{TEXT}"},
}


async def test_an_instance_is_taken_in_every_usual_form(served: Served) -> None:
    expected = await detected(served)
    for name, instance in INSTANCES.items():
        response = await served.client.post(PREDICT, json={"instances": [instance]})
        assert response.status_code == 200, name
        [prediction] = response.json()["predictions"]
        assert kserve_objects(response.json()) == expected, name
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
    body = {"instances": [TEXT, {"b64": "bm8gaW1hZ2U="}]}
    refused(await served.client.post(PREDICT, json=body), 400)
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


async def test_a_wrong_request_is_refused_with_its_reason(served: Served) -> None:
    for name, body in WRONG.items():
        assert refused(await served.client.post(PREDICT, json=body), 422), name
    assert served.detector.prepared == []


async def test_the_time_may_be_shortened(served: Served) -> None:
    served.detector.free.clear()
    body = {"instances": [TEXT], "parameters": {"timeout_ms": 100}}
    refused(await served.client.post(PREDICT, json=body), 504)


async def test_the_model_is_listed_and_ready_once_it_is_loaded(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    key = {"X-API-Key": "secret"}
    async with serve(detector, ready=False, api_keys="secret") as served:
        for path in ("/v1/models", "/v1/models/fake"):
            refused(await served.client.get(path), 401)
        assert (await served.client.get("/v1/models", headers=key)).json() == {"models": []}
        refused(await served.client.get("/v1/models/fake", headers=key), 503)
        detector.warm.set()
        await served.ready()
        assert (await served.client.get("/v1/models", headers=key)).json() == {"models": ["fake"]}
        response = await served.client.get("/v1/models/fake", headers=key)
        assert (response.status_code, response.json()) == (200, {"name": "fake", "ready": True})
        assert "'fake'" in refused(await served.client.get("/v1/models/yolo", headers=key), 404)


async def test_predict_takes_post_and_the_model_get(served: Served) -> None:
    predict = await served.client.get("/v1/models/fake:predict")
    assert (predict.status_code, predict.headers["Allow"]) == (405, "POST")
    model = await served.client.post("/v1/models/fake")
    assert (model.status_code, model.headers["Allow"]) == (405, "GET, HEAD")
