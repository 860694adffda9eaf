"""POST /detect: bodies, options and answers."""

import base64
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image as pillow

from tests.support.fakes import CARD, picture
from tests.support.served import Served

PNG = picture(64, 48)
AS_PNG = {"Content-Type": "image/png"}
BOXES = [[8.0, 12.0, 32.0, 36.0], [16.0, 12.0, 64.0, 24.0]]  # FINDS on 64 x 48, at the card's threshold
KEYS = [
    *("boxes", "labels", "scores", "names", "image", "model", "model_version", "box_format", "timings_ms"),
    "request_id",
]


async def detect(served: Served, query: str = "", content: bytes = PNG, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await served.client.post(f"/detect?{query}", content=content, headers=AS_PNG | named)


async def found(served: Served, query: str) -> dict[str, Any]:
    response = await detect(served, query)
    assert response.status_code == 200, response.text
    return dict(response.json())


# ways to send an image


def as_json(text: str) -> dict[str, Any]:
    return {"content": json.dumps({"image": text}), "headers": {"Content-Type": "application/json"}}


TEXT = base64.b64encode(PNG).decode()
WRAPPED = "\n".join(TEXT[start : start + 76] for start in range(0, len(TEXT), 76)) + "\n"
WAYS: dict[str, dict[str, Any]] = {
    "raw": {"content": PNG, "headers": AS_PNG},
    "raw, another image type": {"content": PNG, "headers": {"Content-Type": "image/jpeg"}},
    "raw, with a parameter": {"content": PNG, "headers": {"Content-Type": "IMAGE/PNG; q=1"}},
    "raw, no telling": {"content": PNG, "headers": {"Content-Type": "application/octet-stream"}},
    "part image": {"files": {"image": ("a.png", PNG, "image/png")}},
    "part file": {"files": {"file": ("a.txt", PNG, "text/plain")}},
    "part without a file name": {"files": {"image": (None, PNG)}},
    "json": as_json(TEXT),
    "json, in lines": as_json(WRAPPED),
    "json, as a data URL": as_json(f"data:image/png;base64,{TEXT}"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_an_image_is_taken_in_every_documented_form(served: Served, way: dict[str, Any]) -> None:
    response = await served.client.post("/detect", **way)
    assert response.status_code == 200, response.text
    assert response.json()["boxes"] == BOXES
    assert response.json()["image"] == {"width": 64, "height": 48}


async def test_a_large_part_arrives_whole(served: Served) -> None:
    """More than the megabyte beyond which multipart parsers like to go through the disk."""
    large = picture(1000, 700, "BMP")
    assert len(large) > 2_000_000
    response = await served.client.post("/detect", files={"image": large})
    assert response.json()["image"] == {"width": 1000, "height": 700}


async def test_sizes_are_those_of_the_image_as_displayed(served: Served) -> None:
    exif = pillow.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned = io.BytesIO()
    pillow.open(io.BytesIO(PNG)).save(turned, "JPEG", exif=exif)
    response = await detect(served, content=turned.getvalue())
    assert response.json()["image"] == {"width": 48, "height": 64}


# the answer


async def test_the_answer_has_the_documented_keys_in_order(served: Served) -> None:
    response = await detect(served, X_Request_ID="mine-1")
    answer = response.json()
    assert list(answer) == KEYS
    assert answer | {"timings_ms": None} == {
        "boxes": BOXES,
        "labels": [1, 2],
        "scores": [0.9375, 0.75],
        "names": ["Square", "disc"],
        "image": {"width": 64, "height": 48},
        "model": "fake",
        "model_version": "1",
        "box_format": "xyxy",
        "timings_ms": None,
        "request_id": "mine-1",
    }
    assert list(answer["timings_ms"]) == ["decode", "queue", "inference", "postprocess", "total"]
    assert all(value >= 0 for value in answer["timings_ms"].values())
    assert answer["timings_ms"]["total"] >= answer["timings_ms"]["decode"] + answer["timings_ms"]["queue"]


async def test_the_answer_has_the_documented_headers(served: Served) -> None:
    response = await detect(served, X_Request_ID="mine-1")
    timings = response.json()["timings_ms"]
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.headers["x-request-id"] == "mine-1"
    said = response.headers["server-timing"].split(", ")
    assert said == [f"{stage};dur={value}" for stage, value in timings.items()]


async def test_nothing_found_is_an_answer(served: Served) -> None:
    answer = await found(served, "score_threshold=1")
    assert [answer[key] for key in KEYS[:4]] == [[], [], [], []]


FORMATS = {
    "box_format=xyxy": BOXES,
    "box_format=xywh": [[8.0, 12.0, 24.0, 24.0], [16.0, 12.0, 48.0, 12.0]],
    "box_format=cxcywh": [[20.0, 24.0, 24.0, 24.0], [40.0, 18.0, 48.0, 12.0]],
    "normalized=true": [[0.125, 0.25, 0.5, 0.75], [0.25, 0.25, 1.0, 0.5]],
    "normalized=1&box_format=cxcywh": [[0.3125, 0.5, 0.375, 0.5], [0.625, 0.375, 0.75, 0.25]],
}


@pytest.mark.parametrize(("query", "boxes"), FORMATS.items(), ids=FORMATS)
async def test_boxes_come_in_the_format_asked_for(
    served: Served, query: str, boxes: list[list[float]]
) -> None:
    answer = await found(served, query)
    assert answer["boxes"] == boxes
    assert answer["box_format"] == (query.partition("box_format=")[2] or "xyxy")


async def test_normalized_boxes_are_finer_than_a_hundredth_of_a_pixel(served: Served) -> None:
    wide = picture(9999, 11)
    pixels = (await detect(served, "score_threshold=0", wide)).json()["boxes"]
    shares = (await detect(served, "score_threshold=0&normalized=true", wide)).json()["boxes"]
    for box, share in zip(pixels, shares, strict=True):
        assert [value * side for value, side in zip(share, (9999, 11) * 2, strict=True)] == pytest.approx(
            box, abs=0.002
        )


# options

CHOSEN = {
    "": [1, 2],
    "score_threshold=0": [1, 2, 4],
    "score_threshold=0.8": [1],
    "max_detections=1": [1],
    "score_threshold=0&classes=disc": [2],
    "score_threshold=0&classes=disc,KITE": [2, 4],
    "score_threshold=0&classes=square&classes=4": [1, 4],
    "score_threshold=0&classes=%20disc%20,,2,": [2],
    "classes=": [1, 2],
}


@pytest.mark.parametrize(("query", "labels"), CHOSEN.items(), ids=CHOSEN)
async def test_options_decide_what_is_found(served: Served, query: str, labels: list[int]) -> None:
    assert (await found(served, query))["labels"] == labels


async def test_every_option_reaches_the_detector(served: Served) -> None:
    await found(
        served,
        "score_threshold=0.25&nms_threshold=0.75&max_detections=7&classes=2,4&class_agnostic=true&size=320",
    )
    job = served.detector.batches[-1][0]
    options = job.options
    assert (options.score_threshold, options.nms_threshold, options.max_detections) == (0.25, 0.75, 7)
    assert (options.classes, options.class_agnostic) == (frozenset({2, 4}), True)
    assert job.canvas.content == (320, 427)


async def test_the_card_gives_the_defaults(served: Served) -> None:
    await found(served, "")
    job = served.detector.batches[-1][0]
    options = job.options
    assert (options.score_threshold, options.nms_threshold) == (CARD.score_threshold, CARD.nms_threshold)
    assert (options.max_detections, options.classes, options.class_agnostic) == (100, None, False)
    assert min(job.canvas.content) == CARD.min_size


async def test_a_wrong_option_is_refused_before_the_image_is_decoded(served: Served) -> None:
    assert (await detect(served, "classes=unicorn")).status_code == 422
    assert served.detector.prepared == []


# drawn answers

DRAWN = {
    "format=png": ("", "PNG"),
    "format=jpeg": ("", "JPEG"),
    "": ("image/png", "PNG"),
    "max_detections=5": ("image/jpeg", "JPEG"),
    "max_detections=6": ("application/json;q=0.1, image/*;q=0.5", "PNG"),
    "max_detections=7": ("image/png;q=0.3, image/jpeg;q=0.4", "JPEG"),
    "format=png&size=64": ("application/json", "PNG"),
}


@pytest.mark.parametrize(("query", "asked"), DRAWN.items(), ids=DRAWN)
async def test_detections_are_drawn_when_asked_for(
    served: Served, query: str, asked: tuple[str, str]
) -> None:
    accept, expected = asked
    photo = picture(640, 480)
    response = await detect(served, query, photo, Accept=accept)
    drawn = pillow.open(io.BytesIO(response.content))
    assert (drawn.format, drawn.size) == (expected, (640, 480))
    assert response.headers["content-type"] == f"image/{expected.lower()}"
    assert response.headers["server-timing"].startswith("decode;dur=")
    original = pillow.open(io.BytesIO(photo)).convert("RGB")
    assert drawn.convert("RGB").tobytes() != original.tobytes()


async def test_an_image_that_no_jpeg_can_have_is_refused_before_it_is_detected(served: Served) -> None:
    for size in ((65_501, 8), (8, 65_501)):
        wide = picture(*size)
        refused = await detect(served, "format=jpeg", wide)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")
        assert "use format=png" in refused.json()["detail"]
        assert served.detector.batches == []
    assert pillow.open(io.BytesIO((await detect(served, "format=png", wide)).content)).size == size
    largest = await detect(served, "format=jpeg", picture(65_500, 8))
    assert pillow.open(io.BytesIO(largest.content)).size == (65_500, 8)


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/json",
        "text/html",
        "image/webp",
        "image/*, application/json",
        "image/png;q=0",
        "*/*, image/png;q=0.9",
    ],
)
async def test_json_is_what_is_not_asked_otherwise(served: Served, accept: str) -> None:
    response = await detect(served, Accept=accept)
    assert response.headers["content-type"] == "application/json"
    assert (await detect(served, "format=json", Accept="image/png")).headers[
        "content-type"
    ] == "application/json"
