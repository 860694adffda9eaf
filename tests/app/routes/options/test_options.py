"""The options of a request: one declaration for every protocol, checked before capacity, each option once."""

import base64
import json
from dataclasses import fields
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.schemas.options import DetectOptions
from models.options import Options
from models.regions import Regions
from tests.app.protocols.openinference.test_grpc import calls, request
from tests.support.asgi_request import AsgiRequest
from tests.support.data.moving import Socket
from tests.support.fakes import CARD, FakeDetector, picture
from tests.support.served import Serve, Served, eventually

PNG = picture()
TEXT = base64.b64encode(PNG).decode()
AS_PNG = {"Content-Type": "image/png"}
SENT: dict[str, Any] = {
    "score_threshold": 0.25,
    "nms_threshold": 0.75,
    "max_detections": 7,
    "classes": "disc,kite",
    "class_agnostic": True,
    "min_area": 12.5,
    "roi": "1,2,30,40.5",
}
"""A value of each option of the detector."""

RESOLVED = Options(**SENT | {"classes": frozenset({2, 4}), "roi": Regions(((1, 2, 30, 40.5),))})


async def post(served: Served, path: str, body: object, **params: Any) -> httpx.Response:
    if isinstance(body, dict):
        return await served.client.post(path, json=body, params=params or None)
    return await served.client.post(path, content=body, params=params or None, headers=AS_PNG)


async def by_query(served: Served) -> None:
    assert (await post(served, "/detect", PNG, **SENT)).status_code == 200


async def by_batch(served: Served) -> None:
    response = await served.client.post("/detect/batch", files={"image": PNG}, params=SENT)
    assert "boxes" in response.json()["results"][0]


async def by_stream(served: Served) -> None:
    assert (await post(served, "/detect/stream", PNG, **SENT)).status_code == 200


async def by_socket(served: Served) -> None:
    socket = Socket(served.app, "/detect/live?score_threshold=0.9")
    await socket.opened()
    socket.text(json.dumps(SENT | {"classes": ["disc,kite"]}))
    assert "options" in await socket.answer()
    socket.frame(PNG)
    assert "boxes" in await socket.answer()
    socket.leave()
    await socket.ended()


async def by_kserve(served: Served) -> None:
    body = {"instances": [TEXT], "parameters": SENT | {"classes": ["disc", "kite"]}}
    assert (await post(served, "/v1/models/fake:predict", body)).status_code == 200


async def by_openinference(served: Served) -> None:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
    body = {"inputs": [tensor], "parameters": SENT}
    assert (await post(served, "/v2/models/fake/infer", body)).status_code == 200


async def by_grpc(served: Served) -> None:
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    message = request(PNG)
    for name, value in SENT.items():
        setattr(message.parameters[name], kinds[type(value)], value)
    async with calls(served) as stub:
        await stub.ModelInfer(message)


WAYS = {
    way.__name__: way
    for way in (by_query, by_batch, by_stream, by_socket, by_kserve, by_openinference, by_grpc)
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_every_option_of_the_detector_reaches_it_in_every_protocol(served: Served, way: Any) -> None:
    assert set(SENT) == {field.name for field in fields(Options)} <= set(DetectOptions.model_fields)
    await way(served)
    assert [job.options for batch in served.detector.batches for job in batch] == [RESOLVED]


def test_an_option_is_the_request_s_else_the_card_s_else_the_default() -> None:
    resolved = Options.resolve({"max_detections": 3, "score_threshold": None, "size": 64}, CARD)
    assert resolved == Options(CARD.score_threshold, CARD.nms_threshold, 3)


TWICE = {"size=64&size=64": 422, "size=64&size=x": 422, "classes=disc&classes=kite": 200}


@pytest.mark.parametrize(("query", "status"), TWICE.items())
async def test_only_classes_may_be_given_twice(served: Served, query: str, status: int) -> None:
    for path in ("/detect", "/detect/stream"):
        response = await post(served, f"{path}?{query}", PNG)
        assert response.status_code == status
        assert status == 200 or "size" in response.json()["detail"]
    live = Socket(served.app, f"/detect/live?{query}")
    if status == 200:
        await live.opened()
        live.leave()
        await live.ended()
    else:
        assert (await live.refused())[0] == status


async def test_an_unknown_option_lists_the_allowed_ones_and_a_wrong_one_its_help(served: Served) -> None:
    wrong = (await post(served, "/detect?score_threshold=2&colour=red", PNG)).json()["detail"]
    help_text = DetectOptions.model_fields["score_threshold"].description
    assert wrong.startswith("score_threshold='2': input should be less than or equal to 1. ")
    assert str(help_text) in wrong
    assert "unknown parameter 'colour'; allowed are score_threshold, nms_threshold, " in wrong
    near = (await post(served, "/detect?Score_treshold=1", PNG)).json()["detail"]
    assert near.startswith("unknown parameter 'Score_treshold', did you mean score_threshold? allowed are ")
    assert all(name in wrong for name in DetectOptions.model_fields)
    tensors = {"inputs": [], "parameters": {"score_threshold": 2}}
    same = (await post(served, "/v2/models/fake/infer", tensors)).json()["error"]
    assert same == wrong.partition("; ")[0]


COMMAS = {
    "salt, pepper": [1],
    "Salt, Pepper,R&B/50%+": [],
    '"salt, pepper","R&B/50%+"': [1, 4],
    ' "SALT, PEPPER" , 2': [1, 2],
    'quote"d': [8],
    '"quote""d"': [8],
    "2,4": [2, 4],
    "a,b\nc": [],
}


@pytest.mark.parametrize(("classes", "labels"), COMMAS.items())
async def test_a_class_name_may_have_commas(serve: Serve, classes: str, labels: list[int]) -> None:
    names = ("background", "salt, pepper", "disc", "N/A", "R&B/50%+", "5", "6", "7", 'quote"d')
    async with serve(FakeDetector(card=CARD.model_copy(update={"labels": names}))) as served:
        responses = [
            await post(served, "/detect", PNG, classes=classes),
            await post(served, "/detect", {"image": TEXT, "classes": classes}),
            await post(served, "/detect", {"image": TEXT, "classes": [classes]}),
            await served.client.post("/detect", files={"image": PNG}, data={"classes": classes}),
        ]
    assert {response.status_code for response in responses} == {200 if labels else 422}
    reached = [job.options.classes for batch in served.detector.batches for job in batch]
    assert reached == [frozenset(labels)] * 4 if labels else reached == []


async def test_options_are_checked_after_the_key_and_before_capacity(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False, api_keys="secret", max_queue=1) as served:
        key = {"X-API-Key": "secret"}

        async def statuses(query: str) -> list[int | None]:
            """Without and with the key, before anything of the body is sent."""
            requests = [AsgiRequest(served.app, f"/detect?{query}", AS_PNG | more) for more in ({}, key)]
            for one in requests:
                await one.answered()
            return [one.status for one in requests]

        assert await statuses("size=1") == [401, 422]
        assert await statuses("size=64") == [401, 503]
        detector.warm.set()
        await served.ready()
        detector.free.clear()
        first = AsgiRequest(served.app, "/detect", AS_PNG | key)
        first.send(PNG)
        await eventually(lambda: bool(detector.batches), "the queue is full")
        assert await statuses("size=1") == [401, 422]
        assert await statuses("size=64") == [401, 429]
        detector.free.set()
        await first.answered()


def test_operations_have_names_and_tags_descriptions() -> None:
    document = create_app(detector=FakeDetector()).openapi()
    operations = [one for path in document["paths"].values() for one in path.values()]
    names = [one["operationId"] for one in operations]
    assert len(names) == len(set(names))
    expected = {"detect", "detect_batch", "detect_stream", "list_models", "list_labels", "load_model"}
    assert expected | {"get_health", "deepstack_detect", "kserve_predict", "oip_infer"} <= set(names)
    described = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(described[tag] for one in operations for tag in one["tags"])
    parameters = {one["name"]: one for one in document["paths"]["/detect"]["post"]["parameters"]}
    assert parameters["X-Priority"]["schema"].items() >= {"minimum": 0, "maximum": 2}.items()
