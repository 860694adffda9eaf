"""A request in tiles: its share of queue and batches, its deadline, its failures and its client's leaving."""

import asyncio
from typing import Any

import pytest

from app.errors import Overloaded
from app.serving.admission import Admission
from models.tiling.tiles import Tiling, tiles_of
from tests.support.asgi_request import AsgiRequest
from tests.support.data.tiled_scenes import (
    PNG,
    RESIZE,
    PixelDetector,
    Shape,
    answer,
    boxes,
    detect,
    draw,
    grid,
)
from tests.support.served import Serve, Served, eventually

LATE = 1e9


async def test_tiles_fill_batches_and_few_are_queued_at_once(serve: Serve) -> None:
    image = draw((900, 700), grid((900, 700))[:5])
    async with serve(PixelDetector(best_batch=4, seconds=0.03)) as served:
        served.detector.free.clear()
        request = asyncio.create_task(detect(served, image, "tile=128"))
        service = served.app.state.service
        await eventually(lambda: len(served.detector.batches) == 1, "the first batch runs")
        await eventually(lambda: service.queue_depth + len(served.detector.batches[0]) == 9, "tiles wait")
        held = await served.metric("rcnn_queue_bytes")
        waiting = await served.metric("rcnn_in_flight")
        served.detector.free.set()
        assert (await request).status_code == 200
        sizes = [len(batch) for batch in served.detector.batches]
        tiles = tiles_of((900, 700), Tiling(128), RESIZE)
        assert sum(sizes) == len(tiles) + 1
        assert max(sizes) == 4
        assert len(sizes) <= len(tiles) / 2
        assert len({job.canvas.key for batch in served.detector.batches for job in batch}) == 2
        whole, tile = 128 * 192 * 12, 128 * 128 * 12
        assert held == len(image) + 900 * 700 * 3 + whole + 8 * tile
        assert waiting == 1
        assert await served.metric("rcnn_stage_duration_seconds_count", stage="decode", model="fake") == 1
        assert await served.metric("rcnn_detections_per_image_count", model="fake") == 1
        assert await served.metric("rcnn_in_flight") == await served.metric("rcnn_queue_bytes") == 0


async def test_tiles_take_slots_in_the_queue(serve: Serve) -> None:
    """Beside another request 42 tiles find no room among 20; alone they are answered, like any request."""
    image, small = draw((900, 700), [Shape((10, 10, 20, 20))]), draw((64, 48), [])
    async with serve(PixelDetector(), max_queue=20) as served:
        served.detector.free.clear()
        first = asyncio.create_task(detect(served, small, ""))
        await eventually(lambda: len(served.detector.batches) == 1, "the device is busy")
        refused = await detect(served, image, "tile=128")
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert "more slots in the queue, 18 are free" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        served.detector.free.set()
        assert (await first).status_code == 200
        assert boxes(await answer(served, image, "tile=128")) == [(10.0, 10.0, 20.0, 20.0)]
        assert await served.metric("rcnn_in_flight") == 0


def test_the_predicted_wait_counts_the_tiles_and_falls_with_each() -> None:
    admission = Admission(100, 1000, clock=lambda: 0.0)
    admission.observe(1, 1.0)
    other = admission.admit(0, LATE)
    permit = admission.admit(10, deadline=20.0)
    with pytest.raises(Overloaded, match="do not fit into the request's time"):
        permit.grow(5, slots=30)
    assert (admission.bytes, admission.predicted_wait) == (10, 2.0)
    permit.grow(5, slots=10)
    assert (admission.depth, admission.bytes, admission.predicted_wait) == (2, 15, 12.0)
    with pytest.raises(Overloaded):
        admission.admit(0, deadline=10.0)
    for _ in range(20):
        permit.release_slot()
    assert admission.predicted_wait == 2.0  # the last place goes with the permit
    permit.release()
    permit.release_slot()
    other.release()
    assert (admission.depth, admission.bytes, admission.predicted_wait) == (0, 0, 0.0)


async def test_a_waiting_request_is_admitted_once_enough_tiles_are_done() -> None:
    admission = Admission(5, 1000, wait_seconds=60)
    permit = admission.admit(0, LATE)
    permit.grow(0, slots=7)
    waiting = asyncio.ensure_future(admission.wait_for_capacity())
    for _ in range(3):
        permit.release_slot()
        await asyncio.sleep(0)
    assert not waiting.done()
    permit.release_slot()
    await asyncio.wait_for(waiting, 20)


async def started(served: Served, query: str) -> AsgiRequest:
    """A request with tiles whose first batch is on the device."""
    request = AsgiRequest(served.app, f"/detect?{query}", PNG)
    request.send(draw((900, 700), grid((900, 700))[:5]))
    service = served.app.state.service
    await eventually(lambda: service.queue_depth > 3 and len(served.detector.batches) == 1, "tiles wait")
    return request


async def nothing_left(served: Served) -> None:
    assert served.app.state.service.queue_depth == 0
    assert await served.metric("rcnn_in_flight") == await served.metric("rcnn_queue_bytes") == 0


async def test_a_client_that_disconnects_cancels_all_tiles(serve: Serve) -> None:
    async with serve(PixelDetector(best_batch=4)) as served:
        served.detector.free.clear()
        request = await started(served, "tile=128")
        request.leave()
        await request.ended()
        await nothing_left(served)
        assert await served.metric("rcnn_cancelled_total") == 1
        served.detector.free.set()
        assert (await detect(served, draw((64, 48), []), "")).status_code == 200
        assert len(served.detector.reached) <= 4 + 1  # what was on the device, and the second request
        assert await served.metric("rcnn_requests_total", route="/detect", status="499") == 1


async def test_an_exceeded_deadline_is_one_504(serve: Serve) -> None:
    async with serve(PixelDetector(best_batch=4)) as served:
        served.detector.free.clear()
        request = await started(served, "tile=128&timeout_ms=3000")
        await request.answered()
        assert (request.status, request.problem["code"]) == (504, "deadline_exceeded")
        await nothing_left(served)
        assert await served.metric("rcnn_deadline_exceeded_total") == 1
        assert await served.metric("rcnn_rejected_total", code="deadline_exceeded") == 1
        assert await served.metric("rcnn_cancelled_total") == 0


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(RuntimeError("SECRET"), 500, "internal"), (MemoryError("full"), 413, "image_too_large")],
)
async def test_a_failing_tile_fails_its_request_once_and_no_other(
    serve: Serve, error: Exception, status: int, code: str
) -> None:
    def poison(job: Any) -> Exception | None:
        bad = job.canvas.image_size == (128, 128) and any(shape.label == 4 for shape in job.canvas.shapes)
        return error if bad else None

    shapes = [*grid((900, 700))[:20], Shape((500, 300, 510, 310), 4)]
    async with serve(PixelDetector(poison=poison, best_batch=4), max_queue=200) as served:
        good = asyncio.create_task(detect(served, draw((900, 700), shapes[:20]), "tile=128"))
        bad = await detect(served, draw((900, 700), shapes), "tile=128")
        assert (bad.status_code, bad.json()["code"]) == (status, code)
        assert "SECRET" not in bad.text
        assert len((await good).json()["boxes"]) == 20
        await nothing_left(served)
        assert await served.metric("rcnn_rejected_total", code=code) == 1
        assert await served.metric("rcnn_cancelled_total") == 0
