"""DeepStack's API: requests and readings of its clients, re-enacted; what Frigate needs, and its settings."""

from typing import Any

import httpx
import pytest

from app import version
from tests.support.fakes import FakeDetector, picture
from tests.support.protocols import PNG, PROTOCOLS, detected, multipart, whole
from tests.support.served import Serve, Served

DETECTION = "/v1/vision/detection"
refused = PROTOCOLS["deepstack"].refused
FRAME = picture(320, 320, "JPEG")


async def post(served: Served, path: str = DETECTION, **parts: Any) -> httpx.Response:
    content, media_type = multipart(**({"image": ("image", PNG)} | parts))
    return await served.client.post(path, content=content, headers={"Content-Type": media_type})


def labels(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [one["label"] for one in response.json()["predictions"]]


# the answer


async def test_the_answer_has_the_documented_keys(served: Served) -> None:
    answer = (await post(served)).json()
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
    predictions = (await post(served, min_confidence="0")).json()["predictions"]
    corners = [prediction[key] for prediction in predictions for key in ("x_min", "y_min", "x_max", "y_max")]
    assert all(type(corner) is int for corner in corners)
    assert [prediction["confidence"] for prediction in predictions] == [0.9375, 0.75, 0.25]
    assert corners[-2:] == [21, 7]  # of 21.333, 6.857


async def test_no_detections_are_a_success(served: Served) -> None:
    answer = (await post(served, min_confidence="1")).json()
    assert (answer["success"], answer["predictions"], answer["count"]) == (True, [], 0)
    assert answer["message"] == "No objects found"


# the request


CONFIDENCES = {None: 0.4, "": 0.4, "0.1": 0.1, " 0.8 ": 0.8, "0": 0, "1": 1, "1e-1": 0.1}


async def test_the_confidence_is_the_score_threshold(served: Served) -> None:
    for confidence, threshold in CONFIDENCES.items():
        await post(served, **({} if confidence is None else {"min_confidence": confidence}))
        assert served.detector.batches[-1][0].options.score_threshold == threshold


async def test_a_wrong_confidence_is_refused(served: Served) -> None:
    for confidence in ("1.1", "-0.1", "nan", "inf", "0,4", "high"):
        assert "0 to 1" in refused(await post(served, min_confidence=confidence), 422), confidence
    assert served.detector.prepared == []


FORMS: dict[str, list[tuple[str, Any]]] = {
    "the file image": [("image", ("a.jpg", PNG))],
    "image without a file name": [("image", (None, PNG))],
    "a file of another name": [("upload", ("a.jpg", PNG))],
    "image, not the first": [("other", ("b.txt", b"text")), ("image", ("a.jpg", PNG))],
    "the first of several": [("one", ("a.jpg", PNG)), ("two", ("b.txt", b"text"))],
    "the first image": [("image", ("a.jpg", PNG)), ("image", ("b.txt", b"text"))],
}


async def test_the_image_is_the_file_named_image_or_the_first_file(served: Served) -> None:
    for name, form in FORMS.items():
        response = await served.client.post(DETECTION, data={"whatever": "1"}, files=form)
        assert labels(response) == ["Square", "disc"], name


async def test_a_wrong_form_is_refused(served: Served) -> None:
    response = await served.client.post(DETECTION, files=[("text", (None, b"1"))])
    assert "no file" in refused(response, 422)
    response = await served.client.post(DETECTION, files=[("n", (None, b""))] * 65)
    assert "64 parts" in refused(response, 422)
    for media_type in ("image/jpeg", "application/json", ""):
        response = await served.client.post(DETECTION, content=PNG, headers={"Content-Type": media_type})
        refused(response, 415)
    content, media_type = multipart(image=("image", PNG))
    headers = {"Content-Type": media_type}
    refused(await served.client.post(DETECTION, content=content[:-20], headers=headers), 422)


# the other routes


async def test_the_models_and_the_status_are_listed(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False, api_keys="secret") as served:
        listed = await post(served, "/v1/vision/custom/list", api_key="secret")
        assert listed.json() == {"success": True, "models": [], "code": 200}
        ping = await served.client.get("/v1/status/ping")
        assert ping.json() == {"success": True, "message": version(), "code": 200}
        update = (await served.client.get("/v1/status/updateavailable")).json()
        assert (update["success"], update["updateAvailable"]) == (True, False)
        detector.warm.set()
        await served.ready()
        headers = {"X-API-Key": "secret"}
        for method in ("POST", "GET"):  # needs no form
            listed = await served.client.request(method, "/v1/vision/custom/list", headers=headers)
            assert listed.json() == {"success": True, "models": ["fake"], "code": 200}
        refused(await served.client.get("/v1/vision/custom/list"), 401)


# keys


async def test_the_key_may_be_a_field_of_the_form(serve: Serve) -> None:
    async with serve(api_keys="alpha,beta") as served:
        assert labels(await post(served, api_key="beta")) == ["Square", "disc"]
        for wrong in ({}, {"api_key": ""}, {"api_key": "b"}, {"api_key": "bêta"}):
            for path in (DETECTION, "/v1/vision/custom/list", "/v1/vision/custom/fake"):
                response = await post(served, path, **wrong)
                assert "api_key" in refused(response, 401)
        assert (await served.client.post("/v1/vision/custom/list")).status_code == 401


# settings


SETTINGS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["Square", "disc", "kite"]),
    ({"max_predictions": 1}, ["Square"]),
    ({"drop_labels": "SQUARE, no such class", "max_predictions": 2}, ["disc", "kite"]),
    ({"drop_labels": "square,disc,kite"}, []),
    ({"label_map": "square=car,Disc=traffic light"}, ["car", "traffic light", "kite"]),
]


@pytest.mark.parametrize(("settings", "expected"), SETTINGS, ids=str)
async def test_classes_are_dropped_renamed_and_capped(
    serve: Serve, settings: dict[str, Any], expected: list[str]
) -> None:
    async with serve(**{f"deepstack_{name}": value for name, value in settings.items()}) as served:
        assert labels(await post(served, min_confidence="0")) == expected
        assert [name for name, *_ in await detected(served)] == ["Square", "disc"]  # as before


SIZES = {(100, 100): 100, (90, 120): 90, (120, 240): 120, (64, 100): 64, (400, 300): 128, (30, 20): 64}


async def test_a_small_image_is_not_enlarged_where_that_is_switched_off(serve: Serve) -> None:
    """The short side; a large image is made smaller all the same, and 64 is the least of `size`."""
    async with serve(deepstack_upscale=False) as served:
        for size, short_side in SIZES.items():
            await post(served, image=("image", picture(*size)))
            assert min(served.detector.batches[-1][0].canvas.content) == short_side
        await detected(served, image=picture(100, 100))
        assert min(served.detector.batches[-1][0].canvas.content) == 128


# clients


async def test_deepstack_python_reads_its_predictions(served: Served) -> None:
    """deepstack-python 0.8 (robmarkcole, core.py): posts `image` and `api_key`, needs 200 and predictions."""
    response = await served.client.post(DETECTION, files={"image": PNG}, data={"api_key": ""})
    assert labels(response) == ["Square", "disc"]
    confidences = [prediction["confidence"] for prediction in response.json()["predictions"]]
    assert [round(float(confidence) * 100, 1) for confidence in confidences] == [93.8, 75.0]


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
