"""Health, metrics, the catalogue and the labels."""

import asyncio
from pathlib import Path

import pytest

from app import version
from app.main import create_app
from app.settings.settings import Settings
from tests.support.fakes import CARD, FakeDetector, picture
from tests.support.served import ROOT, Serve, Served, eventually

HEALTH_KEYS = [
    *(
        "status",
        "model",
        "model_version",
        "loading",
        "device",
        "devices",
        "engine",
        "precision",
        "precision_reason",
    ),
    "models",
    *("version", "queue_depth", "uptime_seconds", "fallback_reason", "hint", "captures"),
]


async def status_of(served: Served, path: str) -> int:
    return (await served.client.get(path)).status_code


# states


async def test_a_ready_service_says_what_it_is(serve: Serve) -> None:
    async with serve(FakeDetector(fallback_reason="no weights", hint="draw shapes")) as served:
        response = await served.client.get("/health")
        health = response.json()
        assert (response.status_code, list(health)) == (200, HEALTH_KEYS)
        assert health.pop("uptime_seconds") > 0
        assert health == {
            "status": "ok",
            "model": "fake",
            "model_version": "1",
            "loading": None,
            "device": "cpu",
            "devices": [{"device": "cpu", "state": "working", "reason": None}],
            "engine": "fake",
            "precision": "fp32",
            "precision_reason": "a fake has no other",
            "models": [
                {
                    "name": "fake",
                    "version": "1",
                    "state": "ready",
                    "device": "cpu",
                    "engine": "fake",
                    "precision": "fp32",
                    "precision_reason": "a fake has no other",
                    "reason": None,
                }
            ],
            "version": version(),
            "queue_depth": 0,
            "fallback_reason": "no weights",
            "hint": "draw shapes",
            "captures": None,
        }
        assert await status_of(served, "/health/live") == 200
        ready = await served.client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (200, {"ready": True, "status": "ok", "reason": None})
        assert await served.metric("rcnn_model_ready") == 1


async def check_not_ready(served: Served, expected: str, reason: str) -> None:
    health, ready = await served.client.get("/health"), await served.client.get("/health/ready")
    assert (health.status_code, health.json()["status"]) == (503, expected)
    assert list(health.json()) == HEALTH_KEYS
    assert (ready.status_code, ready.json()["status"], ready.json()["ready"]) == (503, expected, False)
    assert reason in ready.json()["reason"]
    assert int(ready.headers["retry-after"]) >= 1
    assert await status_of(served, "/health/live") == 200
    assert await served.metric("rcnn_model_ready") == 0
    refused = await served.client.post("/detect", files={"image": picture()})
    assert (refused.status_code, refused.json()["code"]) == (503, expected)
    assert int(refused.headers["retry-after"]) >= 1


async def test_a_loading_service_says_so(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        await check_not_ready(served, "loading", "loaded")
        assert (await served.client.get("/health")).json()["model"] is None
        assert (await served.client.get("/models")).json()["loaded"] is None
        assert (await served.client.get("/labels")).json()["code"] == "loading"
        detector.warm.set()
        await served.ready()
        assert await status_of(served, "/health/ready") == 200


async def test_a_draining_service_says_so(served: Served) -> None:
    served.app.state.service.drain()
    await check_not_ready(served, "draining", "stopping")


LOAD_ERRORS: dict[str, tuple[Exception, bool]] = {
    "a card": (ValueError("no card of this name at /srv/models"), False),
    "a file": (FileNotFoundError(2, "no such file", "/srv/models/a.pt"), False),
    "a bug": (KeyError("weights"), True),
}


@pytest.mark.parametrize(("error", "traced"), LOAD_ERRORS.values(), ids=LOAD_ERRORS)
async def test_a_service_without_a_model_says_so(
    serve: Serve, caplog: pytest.LogCaptureFixture, error: Exception, traced: bool
) -> None:
    async with serve(FakeDetector(load_error=error), ready=False) as served:
        await eventually(lambda: served.app.state.service.state == "failing", "loading has failed")
        await check_not_ready(served, "failing", "log")
        assert "/srv" not in (await served.client.get("/health/ready")).text
        [record] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert str(error) in record.getMessage()
        assert bool(record.exc_info) is traced


async def test_a_model_that_is_named_and_not_there_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """By the real road to a model: no other one takes its place."""
    app = create_app(Settings(model="no-such-model", cache_dir=Path("/nowhere")))
    async with app.router.lifespan_context(app):
        await eventually(lambda: app.state.service.state == "failing", "loading has failed", seconds=60)
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "no-such-model" in record.getMessage()
    assert "coco-r50-fpn" in record.getMessage()


async def test_warm_up_decides_how_large_batches_become(serve: Serve) -> None:
    async with serve(FakeDetector(best_batch=3), max_batch=16) as served:
        served.detector.free.clear()
        files = [("image", picture()) for _ in range(8)]
        request = asyncio.ensure_future(served.client.post("/detect/batch", files=files))
        detector, service = served.detector, served.app.state.service
        await eventually(
            lambda: bool(detector.batches) and len(detector.reached) + service.queue_depth == 8,
            "all are on the device or wait for it",
        )
        served.detector.free.set()
        assert len((await request).json()["results"]) == 8
        assert max(len(batch) for batch in served.detector.batches) == 3


# metrics and catalogue


async def test_metrics_tell_what_is_loaded(serve: Serve) -> None:
    async with serve(FakeDetector(memory={"allocated": 5, "reserved": 9}, cuda_graphs=3)) as served:
        facts = {
            "name": "fake",
            "architecture": "fake",
            "engine": "fake",
            "precision": "fp32",
            "device": "cpu",
            "version": "1",
        }
        assert await served.metric("rcnn_model_info", **facts) == 1
        assert await served.metric("rcnn_device_memory_bytes", device="cpu", kind="allocated") == 5
        assert await served.metric("rcnn_device_memory_bytes", device="cpu", kind="reserved") == 9
        assert await served.metric("rcnn_cuda_graphs", device="cpu") == 3
        response = await served.client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "process_resident_memory_bytes" in response.text


async def test_the_catalogue_lists_the_zoo_and_what_is_loaded(served: Served) -> None:
    answer = (await served.client.get("/models")).json()
    names = {model["name"]: model["loaded"] for model in answer["models"]}
    assert answer["loaded"] == "fake"
    assert names["fake"] is True
    assert names["coco-r50-fpn"] is False
    [fake] = [model for model in answer["models"] if model["loaded"]]
    assert fake["labels"] == list(CARD.labels)
    assert fake["score_threshold"] == CARD.score_threshold


async def test_the_catalogue_keeps_the_server_s_folders_to_itself(serve: Serve, tmp_path: Path) -> None:
    card = (
        'name = "mine"\narchitecture = "resnet50_fpn"\nweights = "file:m.pt"\nlabels = ["background", "a"]\n'
    )
    (tmp_path / "mine.toml").write_text(card)
    async with serve(model_dir=tmp_path) as served:
        response = await served.client.get("/models")
        assert "mine" in [model["name"] for model in response.json()["models"]]
        assert str(tmp_path) not in response.text
        assert str(ROOT) not in response.text


async def test_the_catalogue_shows_no_key_of_an_address(serve: Serve, tmp_path: Path) -> None:
    lines = (
        'name = "mine"\narchitecture = "resnet50_fpn"\nlabels = ["background", "a"]',
        'weights = "https://bucket.example/m.pth?X-Amz-Signature=secret"',
    )
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    async with serve(model_dir=tmp_path) as served:
        response = await served.client.get("/models")
        [mine] = [model for model in response.json()["models"] if model["name"] == "mine"]
        assert mine["weights"] == "https://bucket.example/m.pth"
        assert "secret" not in response.text


async def test_labels_leave_out_what_is_no_class(served: Served) -> None:
    assert (await served.client.get("/labels")).json() == {"1": "Square", "2": "disc", "4": "kite"}
