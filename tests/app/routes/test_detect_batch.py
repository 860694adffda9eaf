"""POST /detect/batch: many images in one request, each with its own answer or its own problem."""

import asyncio
from typing import Any

import httpx
import pytest

from app.schemas.limits import MAX_IMAGES
from tests.support.asgi_request import AsgiRequest
from tests.support.fakes import FakeDetector, picture
from tests.support.served import Serve, Served, eventually

Part = tuple[str, bytes]


def parts(*images: bytes, name: str = "image") -> list[Part]:
    return [(name, image) for image in images]


async def batch(served: Served, images: list[Part], query: str = "") -> httpx.Response:
    return await served.client.post(f"/detect/batch?{query}", files=images)


def shape(result: dict[str, Any]) -> tuple[int, int] | str:
    """Width and height of a detection, or the code of a failure."""
    if "error" in result:
        return str(result["error"]["code"])
    return result["image"]["width"], result["image"]["height"]


async def test_results_come_in_the_order_of_the_images(served: Served) -> None:
    sizes = [(50 + index, 40) for index in range(MAX_IMAGES)]
    response = await batch(served, parts(*(picture(*size) for size in sizes)))
    assert response.status_code == 200
    assert [shape(result) for result in response.json()["results"]] == sizes
    assert int(response.headers["content-length"]) == len(response.content)


async def test_each_result_is_what_detect_answers(served: Served) -> None:
    image, query = picture(), "score_threshold=0&box_format=xywh&normalized=true&classes=2,4"
    alone = (await served.client.post(f"/detect?{query}", files={"image": image})).json()
    [result] = (await batch(served, parts(image, name="file"), query)).json()["results"]
    for answer in (alone, result):
        del answer["timings_ms"], answer["request_id"]
    assert result == alone
    assert result["names"] == ["disc", "kite"]


async def test_one_bad_image_fails_alone(served: Served) -> None:
    images = parts(picture(61, 40), b"no image", b"", picture(62, 40)[:50], picture(63, 40))
    response = await served.client.post("/detect/batch", files=images, headers={"X-Request-ID": "mine"})
    results = response.json()["results"]
    assert response.status_code == 200
    assert [shape(result) for result in results] == [(61, 40), *["invalid_image"] * 3, (63, 40)]
    assert results[1]["error"] == {
        "type": "urn:rcnn-serve:problem:invalid_image",
        "title": "The image cannot be read",
        "status": 400,
        "detail": results[1]["error"]["detail"],
        "code": "invalid_image",
        "request_id": "mine",
    }
    assert await served.metric("rcnn_rejected_total", code="invalid_image") == 3


async def test_a_poisoned_image_fails_alone_and_keeps_its_secret(served: Served) -> None:
    def poison(job: Any) -> Exception | None:
        return RuntimeError("SECRET") if job.canvas.image_size == (48, 63) else None

    served.detector.poison = poison
    response = await batch(served, parts(*(picture(width, 48) for width in (64, 63, 62))))
    assert [shape(result) for result in response.json()["results"]] == [(64, 48), "internal", (62, 48)]
    assert "SECRET" not in response.text


async def test_images_beyond_the_queue_are_refused_alone(serve: Serve) -> None:
    async with serve(max_queue=3) as served:
        served.detector.free.clear()
        task = asyncio.create_task(batch(served, parts(*[picture()] * 5)))
        await eventually(lambda: len(served.detector.batches) == 1, "a batch is on the device")
        served.detector.free.set()
        results = (await task).json()["results"]
        assert [shape(result) for result in results] == [*[(64, 48)] * 3, *["overloaded"] * 2]
        assert await served.metric("rcnn_rejected_total", code="overloaded") == 2


async def test_a_full_service_refuses_the_whole_before_it_reads(serve: Serve) -> None:
    async with serve(max_queue=1) as served:
        served.detector.free.clear()
        task = asyncio.create_task(batch(served, parts(picture())))
        await eventually(lambda: len(served.detector.batches) == 1, "a batch is on the device")
        asgi = AsgiRequest(served.app, "/detect/batch", {"Content-Type": "multipart/form-data; boundary=B"})
        await asgi.answered()
        assert (asgi.status, asgi.problem["code"]) == (429, "overloaded")
        served.detector.free.set()
        assert (await task).status_code == 200


async def test_before_the_model_is_ready_the_whole_is_refused(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        response = await batch(served, parts(picture()))
        assert (response.status_code, response.json()["code"]) == (503, "loading")
        detector.warm.set()
        await served.ready()


@pytest.mark.parametrize("query", ["classes=unicorn", "format=png", "score_threshold=2"])
async def test_a_wrong_option_refuses_the_whole(served: Served, query: str) -> None:
    response = await batch(served, parts(picture()), query)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
    assert served.detector.prepared == []


async def test_a_client_that_leaves_takes_all_images_out_of_the_queue(served: Served) -> None:
    served.detector.free.clear()
    first = asyncio.create_task(batch(served, parts(picture())))
    await eventually(lambda: len(served.detector.batches) == 1, "the first batch is on the device")
    request = httpx.Request(
        "POST", "http://test/", files=parts(picture(31, 33), picture(32, 33), picture(33, 33))
    )
    asgi = AsgiRequest(served.app, "/detect/batch", {"Content-Type": request.headers["Content-Type"]})
    asgi.send(request.read())
    await eventually(lambda: served.app.state.service.queue_depth == 3, "three images wait")
    asgi.leave()
    await asgi.ended()
    served.detector.free.set()
    assert (await first).status_code == 200
    assert served.detector.reached == [(64, 48)]
    assert await served.metric("rcnn_cancelled_total") == 3
    assert await served.metric("rcnn_requests_total", route="/detect/batch", status="499") == 1


async def test_a_body_without_parts_is_refused(served: Served) -> None:
    raw = await served.client.post("/detect/batch", content=b"x", headers={"Content-Type": "image/png"})
    assert (raw.status_code, raw.json()["code"]) == (415, "unsupported_media_type")
    form = {"Content-Type": "multipart/form-data; boundary=B"}
    empty = await served.client.post("/detect/batch", content=b"--B--\r\n", headers=form)
    assert (empty.status_code, empty.json()["code"]) == (422, "invalid_parameter")
