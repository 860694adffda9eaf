"""RCNN_DEVICE=cpu,cpu over HTTP: one queue, a device that dies, what /health and the metrics say."""

import asyncio

import pytest

from tests.support.fakes import Dying, FakeDetector, picture
from tests.support.served import Serve, Served, eventually


async def statuses(served: Served, count: int) -> list[int]:
    works = (served.client.post("/detect", files={"image": picture(64 + 32 * n)}) for n in range(count))
    return [response.status_code for response in await asyncio.gather(*works)]


async def test_two_devices_work_at_once(serve: Serve) -> None:
    detector = FakeDetector()
    detector.free.clear()
    async with serve(detector, device="cpu,cpu") as served:
        work = asyncio.ensure_future(statuses(served, 2))
        await eventually(lambda: len(detector.batches) == 2, "both have a batch")
        assert served.app.state.service.queue_depth == 0
        detector.free.set()
        assert await work == [200, 200]
        health = (await served.client.get("/health")).json()
        assert health["status"] == "ok"
        assert health["devices"] == [{"device": "cpu", "state": "working", "reason": None}] * 2
        assert await served.metric("rcnn_devices", state="working") == 2


@pytest.mark.parametrize(("overlaps", "waiting"), [(False, 2), (True, 1)])
async def test_a_device_that_computes_on_takes_a_second_batch(
    serve: Serve, overlaps: bool, waiting: int
) -> None:
    detector = FakeDetector(overlaps=overlaps)
    detector.free.clear()
    async with serve(detector, device="cpu") as served:
        service = served.app.state.service
        work = asyncio.ensure_future(statuses(served, 3))
        await eventually(lambda: len(detector.prepared) == 3, "all are decoded")
        await eventually(
            lambda: (service.queue_depth, len(detector.batches)) == (waiting, 1),
            "one batch computes, and only what the device may hold beside it has left the queue",
        )
        detector.free.set()
        assert await work == [200] * 3
        assert await served.metric("rcnn_batch_size_count", model="fake") == 3
        assert await served.metric("rcnn_stage_duration_seconds_count", stage="dense", model="fake") == 3
        assert (await served.client.get("/health")).json()["status"] == "ok"


async def test_a_device_that_dies_is_taken_out_and_loses_no_request(serve: Serve) -> None:
    async with serve(Dying(), device="cpu,cpu") as served:
        assert await statuses(served, 12) == [200] * 12
        response = await served.client.get("/health")
        health = response.json()
        assert (response.status_code, health["status"]) == (200, "degraded")
        assert sorted(device["state"] for device in health["devices"]) == ["dead", "working"]
        [reason] = [device["reason"] for device in health["devices"] if device["reason"]]
        assert "RuntimeError" in reason
        assert "CUDA" not in response.text  # the log has that
        ready = await served.client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert await served.metric("rcnn_devices", state="dead") == 1
        assert await served.metric("rcnn_devices", state="working") == 1
        assert await served.metric("rcnn_model_ready") == 1
        assert await statuses(served, 3) == [200] * 3


async def test_when_all_are_dead_the_service_fails(serve: Serve) -> None:
    async with serve(Dying(all_die=True), device="cpu,cpu") as served:
        assert set(await statuses(served, 6)) <= {500, 503}
        await eventually(lambda: served.app.state.service.state == "failing", "no device works")
        response = await served.client.get("/health")
        assert (response.status_code, response.json()["status"]) == (503, "failing")
        assert [device["state"] for device in response.json()["devices"]] == ["dead", "dead"]
        refused = await served.client.post("/detect", files={"image": picture()})
        assert (refused.status_code, refused.json()["code"]) == (503, "failing")
        assert "no device works" in refused.json()["detail"]
        assert await served.metric("rcnn_model_ready") == 0


async def test_the_predicted_wait_counts_the_devices_that_work(serve: Serve) -> None:
    """Two images of a second each take two devices one, and when one has died the other longer."""
    async with serve(Dying(), device="cpu,cpu") as served:
        admission = served.app.state.service._admission
        with admission.admit(0, 1e12), admission.admit(0, 1e12):
            admission.observe(1, 1.0)
            assert admission.predicted_wait == 1.0
            assert await statuses(served, 1) == [200]  # a device has died
            assert admission.predicted_wait > 1.5
