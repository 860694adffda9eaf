"""POST /detect while requests wait, leave or fail, and what is counted and logged."""

import asyncio
import logging
import os
import sys
import threading
import time
from typing import Any

import httpx
import pytest

from app.schemas.options import DetectOptions
from tests.app.routes.test_detect import AS_PNG, PNG, TEXT, as_json, detect, found
from tests.support.asgi_request import AsgiRequest
from tests.support.fakes import FINDS, FakeDetector, picture
from tests.support.served import Serve, Served, eventually

# waiting


async def hold(served: Served) -> asyncio.Task[httpx.Response]:
    """Keep the device busy with a first request; `detector.free` lets it go on."""
    served.detector.free.clear()
    first = asyncio.create_task(detect(served))
    await eventually(lambda: len(served.detector.batches) == 1, "the first request is on the device")
    return first


async def test_waiting_requests_share_batches_and_each_gets_its_own_answer(served: Served) -> None:
    first = await hold(served)
    sizes = [(64, 48 + 1 * index) for index in range(6)]
    rest = [asyncio.create_task(detect(served, content=picture(*size))) for size in sizes]
    await eventually(lambda: served.app.state.service.queue_depth == 6, "six wait")
    assert await served.metric("rcnn_queue_depth") == 6
    assert await served.metric("rcnn_in_flight") == 7
    assert await served.metric("rcnn_queue_bytes") > 7 * (128 * 128 * 12)  # canvases of float RGB
    served.detector.free.set()
    answers = [response.json()["image"] for response in await asyncio.gather(*rest)]
    assert answers == [{"width": width, "height": height} for width, height in sizes]
    assert (await first).status_code == 200
    assert len(served.detector.batches) < 7
    assert await served.metric("rcnn_queue_bytes") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
async def test_decoding_gives_way_to_the_device(served: Served) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    service = served.app.state.service
    plan = service.plan(DetectOptions(), time.monotonic())
    assert await service.on_thread(plan, niceness) == min(19, niceness() + 10)


async def test_a_request_whose_time_runs_out_gets_504(served: Served) -> None:
    first = await hold(served)
    late = await detect(served, "timeout_ms=500")
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    assert await served.metric("rcnn_deadline_exceeded_total") == 1
    served.detector.free.set()
    assert (await first).status_code == 200
    assert len(served.detector.reached) == 1


async def test_time_runs_out_while_an_image_waits_to_be_decoded(serve: Serve) -> None:
    async with serve(decode_threads=1) as served:
        served.detector.decode.clear()
        first = asyncio.create_task(detect(served))
        await eventually(lambda: len(served.detector.prepared) == 1, "the decoder is busy")
        late = await detect(served, "timeout_ms=500")
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        assert await served.metric("rcnn_deadline_exceeded_total") == 1
        served.detector.let_go()
        assert (await first).status_code == 200


async def test_a_body_that_does_not_arrive_in_time_gets_504(served: Served) -> None:
    asgi = AsgiRequest(served.app, "/detect?timeout_ms=30", AS_PNG)
    asgi.send(PNG[:10], more=True)
    await asgi.answered()
    assert (asgi.status, asgi.problem["code"]) == (504, "deadline_exceeded")


async def test_a_full_service_refuses_before_it_reads(serve: Serve) -> None:
    async with serve(max_queue=1) as served:
        first = await hold(served)
        asgi = AsgiRequest(served.app, "/detect", AS_PNG)
        await asgi.answered()  # although it has sent nothing of its body
        assert (asgi.status, asgi.problem["code"]) == (429, "overloaded")
        assert int(asgi.headers["retry-after"]) >= 1
        assert await served.metric("rcnn_rejected_total", code="overloaded") == 1
        served.detector.free.set()
        assert (await first).status_code == 200
        assert (await detect(served)).status_code == 200


async def test_before_the_model_is_ready_requests_are_told_to_come_back(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        asgi = AsgiRequest(served.app, "/detect", AS_PNG)
        await asgi.answered()
        assert (asgi.status, asgi.problem["code"]) == (503, "loading")
        assert int(asgi.headers["retry-after"]) >= 1
        detector.warm.set()
        await served.ready()
        assert (await detect(served)).status_code == 200


# clients that leave


async def test_a_client_that_leaves_the_queue_never_reaches_the_detector(served: Served) -> None:
    first = await hold(served)
    asgi = AsgiRequest(served.app, "/detect", AS_PNG)
    asgi.send(picture(31, 33))
    await eventually(lambda: served.app.state.service.queue_depth == 1, "the second request waits")
    asgi.leave()
    await asgi.ended()
    assert served.app.state.service.queue_depth == 0
    served.detector.free.set()
    assert (await first).status_code == 200
    assert (await detect(served)).status_code == 200
    assert (31, 33) not in served.detector.reached
    assert asgi.status is None
    assert await served.metric("rcnn_cancelled_total") == 1
    assert await served.metric("rcnn_requests_total", route="/detect", status="499") == 1
    assert await served.metric("rcnn_in_flight") == 0


async def test_a_client_that_leaves_before_decoding_is_not_decoded(serve: Serve) -> None:
    async with serve(decode_threads=1) as served:
        served.detector.decode.clear()
        first = asyncio.create_task(detect(served))
        await eventually(lambda: len(served.detector.prepared) == 1, "the decoder is busy")
        asgi = AsgiRequest(served.app, "/detect", AS_PNG)
        asgi.send(picture(31, 33))
        await eventually(lambda: asgi.read_all, "the second request is read")
        asgi.leave()
        await asgi.ended()
        served.detector.let_go()
        assert (await first).status_code == 200
        assert (await detect(served)).status_code == 200
        assert (33, 31) not in served.detector.prepared
        assert await served.metric("rcnn_cancelled_total") == 1


async def test_a_client_that_leaves_within_the_body_is_forgotten(served: Served) -> None:
    asgi = AsgiRequest(served.app, "/detect", AS_PNG)
    asgi.send(PNG[:10], more=True)
    asgi.leave()
    await asgi.ended()
    assert asgi.status is None
    assert served.detector.prepared == []
    assert await served.metric("rcnn_requests_total", route="/detect", status="499") == 1


# failures on the device


async def test_a_poisoned_image_fails_alone_and_keeps_its_secret(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    def poison(job: Any) -> Exception | None:
        return RuntimeError("SECRET") if job.canvas.image_size == (48, 63) else None

    served.detector.poison = poison
    first = await hold(served)
    rest = [asyncio.create_task(detect(served, content=picture(width, 48))) for width in (64, 63, 62)]
    await eventually(lambda: served.app.state.service.queue_depth == 3, "three wait")
    served.detector.free.set()
    responses = await asyncio.gather(*rest)
    assert [response.status_code for response in responses] == [200, 500, 200]
    assert responses[1].json()["code"] == "internal"
    assert "SECRET" not in responses[1].text
    assert (await first).status_code == 200
    traced = [record for record in caplog.records if record.exc_info and "SECRET" in str(record.exc_info[1])]
    assert traced


async def test_an_image_too_large_for_the_device_is_told_so(served: Served) -> None:
    served.detector.poison = lambda job: MemoryError("out of memory")
    response = await detect(served)
    assert (response.status_code, response.json()["code"]) == (413, "image_too_large")
    assert "size" in response.json()["detail"]


async def test_a_dead_loop_is_not_hidden(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """No request can kill the loop, so the test does: nothing else may say that all is well."""
    loop = next(task for task in asyncio.all_tasks() if task.get_name() == "batcher")
    loop.cancel()
    await eventually(loop.done, "the loop is dead")
    refused = await detect(served)
    assert (refused.status_code, refused.json()["code"]) == (503, "failing")
    ready = await served.client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "failing")


# what is counted and logged


async def test_stages_and_detections_are_measured(served: Served) -> None:
    await found(served, "score_threshold=0")
    for stage in ("decode", "queue", "dense", "postprocess"):
        assert await served.metric("rcnn_stage_duration_seconds_count", stage=stage, model="fake") == 1
    assert await served.metric("rcnn_detections_total", model="fake") == len(FINDS)
    assert await served.metric("rcnn_detections_per_image_sum", model="fake") == len(FINDS)
    assert await served.metric("rcnn_batch_size_sum", model="fake") == 1
    assert await served.metric("rcnn_batch_duration_seconds_count", model="fake") == 1
    assert await served.metric("rcnn_padding_ratio_sum", model="fake") == pytest.approx(
        1 - 128 * 171 / (128 * 192)
    )


async def test_no_image_content_is_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await served.client.post("/detect", **as_json(TEXT))
        await served.client.post("/detect", **as_json(TEXT + "!"))
        await served.client.post("/detect", files={"image": ("secret-name.png", PNG)})
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert TEXT[:20] not in text
    assert "secret-name" not in text
