"""DOODS's API, by requests of PyDOODS and Home Assistant: on the path of /detect, told apart by keys."""

from typing import Any

import httpx
import pytest

from tests.support.fakes import CARD, FakeDetector
from tests.support.protocols import PNG, as_json, encoded
from tests.support.served import Serve, Served

BOTH = ["Square", "disc"]
ALL = [*BOTH, "kite"]
SQUARE = {
    "top": 0.25,
    "left": 0.125,
    "bottom": 0.75,
    "right": 0.5,
    "label": "Square",
    "confidence": 93.75,
}


async def post(served: Served, headers: dict[str, str] | None = None, **values: Any) -> httpx.Response:
    content, media_type = as_json({"data": encoded(PNG), "detect": {"*": 50}} | values)
    headers = {"Content-Type": media_type} | (headers or {})
    return await served.client.post("/detect", content=content, headers=headers)


def labels(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [one["label"] for one in response.json()["detections"]]


def refused(response: httpx.Response, status: int) -> str:
    """Check that the answer is an error of DOODS; its text."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    return str(response.json()["error"])


async def test_the_answer_has_the_keys_of_doods(served: Served) -> None:
    response = await post(served, id="porch", detector_name="default", throttle=5)
    answer = response.json()
    assert set(answer) == {"id", "detections"}
    assert answer["id"] == "porch"
    assert answer["detections"][0] == SQUARE
    assert labels(response) == BOTH
    assert response.headers["x-model"] == "fake"
    assert served.detector.batches[-1][0].options.score_threshold == 0.5
    assert set((await post(served)).json()) == {"detections"}


LEFT = {"right": 0.6, "detect": {"*": 50}}  # holds Square, touches disc
TOP = {"id": "sky", "bottom": 0.2, "detect": {"kite": 20, "*": 99}}
RULES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "any": ({"detect": {"*": 0}}, ALL),
    "a label": ({"detect": {"disc": 75}}, ["disc"]),
    "a label is not also any": ({"detect": {"Square": 99, "*": 20}}, ["disc", "kite"]),
    "zero is a minimum": ({"detect": {"kite": 0, "*": 99}}, ["kite"]),
    "an unknown label": ({"detect": {"person": 10}}, []),
    "none": ({"detect": {}}, []),
    "a region touches": ({"detect": {}, "regions": [LEFT]}, BOTH),
    "a region covers": ({"detect": {}, "regions": [LEFT | {"covers": True}]}, ["Square"]),
    "without detect": ({"detect": None, "regions": [LEFT | {"covers": True}, TOP]}, ["Square", "kite"]),
    "detect and a region": ({"detect": {"Square": 50}, "regions": [TOP]}, ["Square", "kite"]),
    "null in place of a list": ({"regions": None, "image": None, "preprocess": None}, BOTH),
}


@pytest.mark.parametrize("name", RULES)
async def test_the_rules_choose_detections(served: Served, name: str) -> None:
    values, expected = RULES[name]
    assert labels(await post(served, **values)) == expected


async def test_a_detection_names_its_region(served: Served) -> None:
    response = await post(served, detect={"Square": 50}, regions=[TOP])
    regions = [one.get("region_id") for one in response.json()["detections"]]
    assert regions == [None, "sky"]


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "no base64": ({"data": "?"}, 422, "base64"),
    "no text": ({"data": 1}, 422, "base64"),
    "no image": ({"data": encoded(b"text")}, 400, "text"),
    "an address": ({"data": "http://127.0.0.1/a.jpg"}, 422, "RCNN_FETCH_URLS"),
    "more than all": ({"detect": {"*": 101}}, 422, "100"),
    "a list of labels": ({"detect": ["person"]}, 422, "detect"),
    "a drawn image": ({"image": "jpeg"}, 422, "format=jpeg"),
    "grayscale": ({"preprocess": ["grayscale"]}, 422, "preprocess"),
    "too many regions": ({"regions": [LEFT] * 33}, 422, "regions"),
    "another detector": ({"detector_name": "yolo"}, 404, "fake"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_an_error_is_doods_own(served: Served, name: str) -> None:
    values, status, text = WRONG[name]
    assert text in refused(await post(served, **values), status)
    assert served.detector.batches == []


async def test_the_detectors_are_the_models_and_their_aliases(serve: Serve) -> None:
    async with serve(model_aliases="door=fake", api_keys="secret") as served:
        assert "X-API-Key" in refused(await served.client.get("/detectors"), 401)
        key = {"doods-auth-key": "secret"}
        listed = (await served.client.get("/detectors", headers=key)).json()["detectors"]
        assert [one["name"] for one in listed] == ["default", "door", "fake"]
        assert {one["model"] for one in listed} == {CARD.name}
        assert listed[0]["labels"] == ALL
        assert (listed[0]["width"], listed[0]["height"]) == (0, 0)
        for name in ("default", "door", "fake", "", None):
            assert labels(await post(served, key, detector_name=name)) == BOTH
        assert (await post(served)).status_code == 401


async def test_no_detectors_while_the_model_loads(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        response = await served.client.get("/detectors")
        refused(response, 503)
        assert int(response.headers["retry-after"]) >= 1


async def test_our_own_json_stays_ours(served: Served) -> None:
    """Only `data` with `detect` or `regions` is DOODS's, and only on /detect."""
    ours, media_type = as_json({"image": encoded(PNG)})
    headers = {"Content-Type": media_type}
    assert (await served.client.post("/detect", content=ours, headers=headers)).json()["names"] == BOTH
    for path, values in (
        ("/detect", {"data": encoded(PNG)}),
        ("/detect", {"image": encoded(PNG), "detect": {"*": 50}}),
        ("/detect/batch", {"data": encoded(PNG), "detect": {"*": 50}}),
    ):
        content, _ = as_json(values)
        response = await served.client.post(path, content=content, headers=headers)
        assert response.json()["code"] == "invalid_parameter", path
        assert response.headers["content-type"] == "application/problem+json"
