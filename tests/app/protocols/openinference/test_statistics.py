"""Triton's statistics, over HTTP and gRPC: what the model did, counted once."""

import asyncio
from typing import Any

from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from app.protocols.openinference.statistics import NANOSECONDS
from tests.app.protocols.openinference.test_grpc import calls, request
from tests.support.protocols import PNG, PROTOCOLS
from tests.support.served import Serve, Served, eventually


async def of_fake(served: Served, path: str = "/v2/models/stats") -> Any:
    response = await served.client.get(path)
    assert response.status_code == 200, response.text
    [found] = response.json()["model_stats"]
    assert (found["name"], found["version"]) == ("fake", "1")
    return found


async def test_images_and_batches_are_counted_whatever_asked_for_them(served: Served) -> None:
    before = await of_fake(served)
    assert (before["inference_count"], before["execution_count"], before["last_inference"]) == (0, 0, 0)
    async with calls(served) as stub:
        await stub.ModelInfer(request(PNG, PNG))
        await PROTOCOLS["deepstack"].post(served)
        served.detector.poison = lambda job: RuntimeError("broken")
        assert (await PROTOCOLS["kserve"].post(served)).status_code == 500
        assert (await PROTOCOLS["huggingface"].post(served, PNG[:60])).status_code == 400
        after = await of_fake(served, "/v2/models/fake/versions/1/stats")
        [same] = (await stub.ModelStatistics(pb.ModelStatisticsRequest())).model_stats
        [named] = (await stub.ModelStatistics(pb.ModelStatisticsRequest(name="fake"))).model_stats
    assert {key: value["count"] for key, value in after["inference_stats"].items()} == {
        "success": 3,
        "fail": 2,
        **dict.fromkeys(("queue", "compute_input", "compute_infer", "compute_output"), 3),
    }
    sizes = {one["batch_size"]: one["compute_infer"]["count"] for one in after["batch_stats"]}
    assert after["inference_count"] == 3 == sum(size * count for size, count in sizes.items())
    assert after["execution_count"] == sum(sizes.values())
    assert after["execution_count"] == await served.metric("rcnn_batch_size_count", model="fake")
    total = after["inference_stats"]["success"]["ns"] / NANOSECONDS
    assert total >= after["inference_stats"]["queue"]["ns"] / NANOSECONDS
    assert after["last_inference"] > 1_700_000_000_000
    assert named == same
    assert (same.inference_count, same.execution_count) == (3, after["execution_count"])
    assert same.inference_stats.success.ns == after["inference_stats"]["success"]["ns"]
    assert (await served.client.get("/v2/models/yolo/stats")).json()["error"].startswith("no model 'yolo'")


async def test_a_client_that_leaves_is_a_failure(serve: Serve) -> None:
    async with serve() as served:
        served.detector.free.clear()
        first = asyncio.create_task(PROTOCOLS["kserve"].post(served))
        await eventually(lambda: bool(served.detector.batches), "the image is on the device")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        served.detector.free.set()
        assert (await of_fake(served))["inference_stats"]["fail"]["count"] == 1
