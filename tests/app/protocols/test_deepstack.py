"""DeepStack's API: requests and readings of its clients, re-enacted; what Frigate needs, and its settings."""

from typing import Any

import httpx
import pytest

from app import version
from tests.support.asgi_request import AsgiRequest
from tests.support.fakes import FakeDetector, picture
from tests.support.protocols import PNG, detected, multipart, whole
from tests.support.served import Serve, Served

DETECTION = "/v1/vision/detection"
FRAME = picture(320, 320, "JPEG")


async def post(served: Served, path: str = DETECTION, **parts: Any) -> httpx.Response:
    content, media_type = multipart(**({"image": ("image", PNG)} | parts))
    return await served.client.post(path, content=content, headers={"Content-Type": media_type})


def labels(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [one["label"] for one in response.json()["predictions"]]


# the answer


async def test_the_answer_has_the_documented_keys(served: Served) -> None:
    response = await post(served)
    answer = response.json()
    times = {key: answer.pop(key) for key in ("processMs", "inferenceMs", "duration")}
    assert answer == {
        "success": True,
        "predictions": [
            {"confidence": 0.9375, "label": "Square", "x_min": 8, "y_min": 12, "x_max": 32, "y_max": 36},
            {"confidence": 0.75, "label": "disc", "x_min": 16, "y_min": 12, "x_max": 64, "y_max": 24},
        ],
        "message": "Found Square, disc",
        "count": 2,
        "code": 200,
    }
    assert [type(value) for value in times.values()] == [int, int, float]
    assert all(value >= 0 for value in times.values())


async def test_pixels_are_whole_and_confidences_fall(served: Served) -> None:
    response = await post(served, min_confidence="0")
    predictions = response.json()["predictions"]
    for one in predictions:
        assert all(type(one[key]) is int for key in ("x_min", "y_min", "x_max", "y_max"))
    found = [one["confidence"] for one in predictions]
    assert found == sorted(found, reverse=True)
    assert [predictions[2][key] for key in ("x_max", "y_max")] == [21, 7]  # of 21.333, 6.857


async def test_nothing_found_is_a_success(served: Served) -> None:
    answer = (await post(served, min_confidence="1")).json()
    assert (answer["success"], answer["predictions"], answer["count"]) == (True, [], 0)
    assert answer["message"] == "No objects found"


# the request


async def test_without_a_confidence_it_is_two_fifths(served: Served) -> None:
    await post(served)
    await post(served, min_confidence="")
    assert [job[0].options.score_threshold for job in served.detector.batches] == [0.4, 0.4]


CONFIDENCES = {"0.1": 3, " 0.8 ": 1, "0": 3, "1": 0, "1e-1": 3}


@pytest.mark.parametrize(("given", "count"), CONFIDENCES.items())
async def test_the_confidence_decides_what_is_found(served: Served, given: str, count: int) -> None:
    assert (await post(served, min_confidence=given)).json()["count"] == count


@pytest.mark.parametrize("given", ["1.1", "-0.1", "nan", "inf", "0,4", "high"])
async def test_a_wrong_confidence_is_refused(served: Served, given: str) -> None:
    response = await post(served, min_confidence=given)
    assert response.status_code == 422
    assert response.json()["success"] is False
    assert "0 to 1" in response.json()["error"]
    assert served.detector.prepared == []


FORMS: dict[str, list[tuple[str, Any]]] = {
    "the file image": [("image", ("a.jpg", PNG))],
    "image without a file name": [("image", (None, PNG))],
    "a file of another name": [("upload", ("a.jpg", PNG))],
    "image, not the first": [("other", ("b.txt", b"text")), ("image", ("a.jpg", PNG))],
    "the first of several": [("one", ("a.jpg", PNG)), ("two", ("b.txt", b"text"))],
    "the first image": [("image", ("a.jpg", PNG)), ("image", ("b.txt", b"text"))],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_the_image_is_that_file_or_the_first(served: Served, form: list[tuple[str, Any]]) -> None:
    response = await served.client.post(DETECTION, data={"whatever": "1"}, files=form)
    assert labels(response) == ["Square", "disc"]


async def test_a_form_without_a_file_is_refused(served: Served) -> None:
    response = await served.client.post(DETECTION, files=[("text", (None, b"1"))])
    assert (response.status_code, response.json()["success"]) == (422, False)
    assert "no file" in response.json()["error"]


async def test_a_form_of_endless_parts_is_refused(served: Served) -> None:
    response = await served.client.post(DETECTION, files=[("n", (None, b""))] * 65)
    assert (response.status_code, response.json()["success"]) == (422, False)
    assert "64 parts" in response.json()["error"]


@pytest.mark.parametrize("media_type", ["image/jpeg", "application/json", ""])
async def test_what_is_no_form_is_refused(served: Served, media_type: str) -> None:
    response = await served.client.post(DETECTION, content=PNG, headers={"Content-Type": media_type})
    assert (response.status_code, response.json()["success"]) == (415, False)


async def test_a_form_that_breaks_off_is_refused(served: Served) -> None:
    content, media_type = multipart(image=("image", PNG))
    caller = AsgiRequest(served.app, DETECTION, {"Content-Type": media_type})
    caller.send(content[:-20])
    await caller.answered()
    assert (caller.status, caller.answer["success"]) == (422, False)


# the other routes


async def test_the_models_are_listed(served: Served) -> None:
    response = await served.client.post("/v1/vision/custom/list")
    assert response.json() == {"success": True, "models": ["fake"], "code": 200}


async def test_no_model_is_listed_before_there_is_one(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        assert (await served.client.post("/v1/vision/custom/list")).json()["models"] == []
        assert (await served.client.get("/v1/status/ping")).json()["success"] is True
        detector.warm.set()
        await served.ready()


async def test_ping_and_updates_are_open(serve: Serve) -> None:
    async with serve(api_keys="secret") as served:
        ping = await served.client.get("/v1/status/ping")
        assert ping.json() == {"success": True, "message": version(), "code": 200}
        update = await served.client.get("/v1/status/updateavailable")
        assert update.json()["success"] is True
        assert update.json()["updateAvailable"] is False


# keys


async def test_the_key_may_be_a_field_of_the_form(serve: Serve) -> None:
    async with serve(api_keys="alpha,beta") as served:
        assert labels(await post(served, api_key="beta")) == ["Square", "disc"]
        assert (await post(served, "/v1/vision/custom/list", api_key="beta")).json()["models"] == ["fake"]
        for wrong in ({}, {"api_key": ""}, {"api_key": "b"}, {"api_key": "bêta"}):
            for path in (DETECTION, "/v1/vision/custom/list", "/v1/vision/custom/fake"):
                response = await post(served, path, **wrong)
                assert (response.status_code, response.json()["success"]) == (401, False)
                assert "api_key" in response.json()["error"]
        assert (await served.client.post("/v1/vision/custom/list")).status_code == 401


# settings


async def test_a_cap_keeps_the_best(serve: Serve) -> None:
    async with serve(deepstack_max_predictions=1) as served:
        assert labels(await post(served, min_confidence="0")) == ["Square"]
        assert len(await detected(served)) == 2  # /detect knows nothing of it


async def test_dropped_classes_take_no_place_of_others(serve: Serve) -> None:
    settings = {"deepstack_drop_labels": "SQUARE, no such class", "deepstack_max_predictions": 2}
    async with serve(**settings) as served:
        assert labels(await post(served, min_confidence="0")) == ["disc", "kite"]
        assert len(await detected(served)) == 2


async def test_every_class_may_be_dropped(serve: Serve) -> None:
    async with serve(deepstack_drop_labels="square,disc,kite") as served:
        assert labels(await post(served, min_confidence="0")) == []


async def test_classes_may_have_other_names(serve: Serve) -> None:
    async with serve(deepstack_label_map="square=car,Disc=traffic light") as served:
        assert labels(await post(served, min_confidence="0")) == ["car", "traffic light", "kite"]
        assert [name for name, *_ in await detected(served)] == ["Square", "disc"]


@pytest.mark.parametrize("size", [(100, 100), (90, 120), (120, 240), (64, 100)])
async def test_a_small_image_is_not_enlarged_where_that_is_switched_off(
    serve: Serve, size: tuple[int, int]
) -> None:
    async with serve(deepstack_upscale=False) as served:
        await post(served, image=("image", picture(*size)))
        assert served.detector.batches[-1][0].canvas.content == size[::-1]
        await detected(served, image=picture(*size))
        assert min(served.detector.batches[-1][0].canvas.content) == 128


async def test_a_large_image_is_made_smaller_all_the_same(serve: Serve) -> None:
    async with serve(deepstack_upscale=False) as served:
        await post(served, image=("image", picture(400, 300)))
        assert min(served.detector.batches[-1][0].canvas.content) == 128
        await post(served, image=("image", picture(30, 20)))  # 64 is the least of the option `size`
        assert min(served.detector.batches[-1][0].canvas.content) == 64


# clients


async def test_deepstack_python_reads_its_predictions(served: Served) -> None:
    """deepstack-python 0.8 (robmarkcole, core.py): posts `image` and `api_key`, wants 200 and predictions."""
    response = await served.client.post(DETECTION, files={"image": PNG}, data={"api_key": ""})
    assert response.status_code == 200
    predictions = response.json()["predictions"]
    read = [
        (
            str(one["label"]),
            round(float(one["confidence"]) * 100, 1),
            [one[key] for key in ("x_min", "y_max")],
        )
        for one in predictions
    ]
    assert read == [("Square", 93.8, [8, 36]), ("disc", 75.0, [16, 24])]


FRIGATE = {1: "square", 2: "disc"}  # its labelmap, in lower case; it does not know the kite


async def frigate(served: Served) -> list[list[float]]:
    """Frigate 0.16, detectors/plugins/deepstack.py, re-enacted: the same request, the same reading."""
    content, media_type = multipart(api_key="", image=("image", FRAME))
    headers = {"Content-Type": media_type}
    answer = (await served.client.post(DETECTION, content=content, headers=headers)).json()
    rows = [[0.0] * 6 for _ in range(20)]
    for index, one in enumerate(answer.get("predictions") or []):
        known = [number for number, name in FRIGATE.items() if name == one["label"].lower()]
        if one["confidence"] < 0.4 or not known:
            break
        corners = (one["y_min"] / 320, one["x_min"] / 320, one["y_max"] / 320, one["x_max"] / 320)
        rows[index] = [known[0], float(one["confidence"]), *corners]  # IndexError on the 21st
    return [row for row in rows if row[0]]


async def test_frigate_gets_the_detections_of_detect(serve: Serve) -> None:
    frigates = {"deepstack_max_predictions": 20, "deepstack_drop_labels": "kite", "deepstack_upscale": False}
    async with serve(**frigates) as served:
        rows = await frigate(served)
        expected = whole(await detected(served, "score_threshold=0.4", FRAME))
    assert [row[:2] for row in rows] == [[1, 0.9375], [2, 0.75]]
    for row, (_, _, (left, top, right, bottom)) in zip(rows, expected, strict=True):
        assert row[2:] == [top / 320, left / 320, bottom / 320, right / 320]


async def test_a_refusal_is_no_detection_to_frigate(serve: Serve) -> None:
    async with serve(api_keys="secret") as served:
        assert await frigate(served) == []
