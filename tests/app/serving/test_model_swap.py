"""A swap of the serving model: no request is rejected, each is answered by one model, the old one goes."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from app.main import create_app
from app.serving.models.release import COLLECT_SECONDS
from app.serving.service import DetectionService
from app.settings.settings import Settings
from tests.support.asgi_request import AsgiRequest
from tests.support.fakes import FakeDetector, picture
from tests.support.model_swap import NEW, OLD, Loader, Swap, fake, made_by, swap
from tests.support.served import Serve, eventually

# which model answers


async def test_the_new_model_answers_and_everything_names_it(serve: Serve) -> None:
    old = fake(OLD, "aaa", memory={"allocated": 5, "reserved": 9})
    async with swap(serve, old) as models:
        models.new.memory["allocated"] = 7
        get, metric = models.served.client.get, models.served.metric
        assert await models.serving() == (OLD, "aaa")
        answer = (await models.load()).json()
        assert answer.pop("seconds") >= 0
        previous = {"model": OLD, "model_version": "aaa"}
        assert answer == {"model": NEW, "model_version": "bbb", "previous": previous}
        response = await models.detect()
        assert made_by(response) == (NEW, "bbb")
        assert response.json()["names"] == ["kite", "Square"]
        health = (await get("/health")).json()
        fields = ("status", "model", "model_version", "loading")
        assert [health[field] for field in fields] == ["ok", NEW, "bbb", None]
        listed = (await get("/models")).json()
        assert (listed["loaded"], listed["loaded_version"], listed["loading"]) == (NEW, "bbb", None)
        assert [model["name"] for model in listed["models"] if model["loaded"]] == [NEW]
        assert (await get("/labels")).json()["1"] == "kite"
        assert models.loader.loaded[1].endswith(f"models/zoo/{NEW}.toml")
        assert await metric("rcnn_device_memory_bytes", device="cpu", kind="allocated") == 7
        text = (await get("/metrics")).text
        assert text.count("rcnn_model_info{") == 1
        assert 'version="bbb"' in text
        assert 'kind="reserved"' not in text
        assert await metric("rcnn_model_swaps_total", outcome="switched") == 1
        assert await metric("rcnn_detections_total", model=OLD) == 2
        assert await metric("rcnn_detections_total", model=NEW) == 2


async def test_requests_in_the_queue_at_the_switch_are_answered_by_the_old_model(serve: Serve) -> None:
    async with swap(serve) as models:
        old, new, service = models.old, models.new, models.served.app.state.service
        old.free.clear()
        early = [models.detect("classes=Square,disc") for _ in range(3)]
        await eventually(lambda: len(old.prepared) == 3 and len(old.batches) == 1, "one is on the device")
        await eventually(lambda: len(old.reached) + service.queue_depth == 3, "the others wait for it")
        assert (await models.load()).status_code == 200
        late = [models.detect("classes=Square,disc") for _ in range(2)]
        await eventually(lambda: len(new.prepared) == 2, "the late ones are prepared for the new model")
        assert not new.batches
        old.free.set()
        answers = await asyncio.gather(*early, *late)
        assert [made_by(answer) for answer in answers] == [(OLD, "aaa")] * 3 + [(NEW, "bbb")] * 2
        assert [answer.json()["names"] for answer in answers] == [["Square", "disc"]] * 3 + [["Square"]] * 2
        assert [answer.json()["labels"] for answer in answers] == [[1, 2]] * 3 + [[2]] * 2
        assert (len(old.reached), len(new.reached)) == (3, 2)


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    + picture()
    + b"\r\n--b--\r\n"
)
BODIES = {
    "detect": ("/detect?classes=Square", picture(), "image/png"),
    "huggingface": (f"/models/{OLD}", picture(), "image/png"),
    "deepstack": ("/v1/vision/detection", FORM, "multipart/form-data; boundary=b"),
}


@pytest.mark.parametrize(("url", "body", "media_type"), BODIES.values(), ids=BODIES)
async def test_a_body_that_arrives_after_the_switch_is_the_old_models(
    serve: Serve, url: str, body: bytes, media_type: str
) -> None:
    async with swap(serve, deepstack_drop_labels="kite") as models:
        request = AsgiRequest(models.served.app, url, {"Content-Type": media_type})
        request.send(body[:50], more=True)
        await eventually(lambda: request.read_all, "the server waits for the rest")
        assert (await models.load()).status_code == 200
        request.send(body[50:])
        await request.answered()
        assert request.status == 200
        assert (request.headers["x-model"], request.headers["x-model-version"]) == (OLD, "aaa")
        assert (len(models.old.reached), len(models.new.reached)) == (1, 0)


async def test_the_same_name_is_read_again(serve: Serve) -> None:
    async with swap(serve) as models:
        models.loader.detectors[OLD] = fake(OLD, "aab")
        assert (await models.load(OLD)).json()["model_version"] == "aab"
        assert await models.serving() == (OLD, "aab")
        models.loader.detectors[OLD] = fake(NEW, "bbb")  # the card has another model's name now
        response = await models.load(OLD)
        assert (response.status_code, response.json()["code"]) == (422, "load_failed")
        assert await models.serving() == (OLD, "aab")


# a load that fails or takes its time

FAILURES = {
    "a card": (ValueError("no such weights file"), "no such weights file"),
    "memory": (MemoryError(), "not enough memory"),
    "an error of ours": (KeyError("secret"), "the service's log has the reason"),
    "the warm-up": (None, "the device is gone"),
}


@pytest.mark.parametrize(("error", "detail"), FAILURES.values(), ids=FAILURES)
async def test_a_failed_load_leaves_everything_as_it_was(
    serve: Serve, error: Exception | None, detail: str
) -> None:
    async with swap(serve, error=error) as models:
        models.new.load_error = OSError("the device is gone")
        response = await models.load()
        assert (response.status_code, response.json()["code"]) == (422, "load_failed")
        assert detail in response.json()["detail"]
        assert "secret" not in response.text
        assert await models.serving() == (OLD, "aaa")
        assert (await models.served.client.get("/health")).json()["loading"] is None
        assert await models.served.metric("rcnn_model_swaps_total", outcome="failed") == 1
        assert await models.served.metric("rcnn_model_load_failed", model=NEW) == 1
        assert await models.served.metric("rcnn_models_in_memory") == 1


@asynccontextmanager
async def loading(
    serve: Serve,
) -> AsyncIterator[tuple[Swap, DetectionService, "asyncio.Task[httpx.Response]"]]:
    """The models, the service, and the load of the new model, which stays in its warm-up."""
    async with swap(serve) as models:
        models.new.warm.clear()
        task = asyncio.create_task(models.load())
        await eventually(lambda: len(models.loader.loaded) == 2, "the new one loads, after the old one")
        yield models, models.served.app.state.service, task


async def test_requests_are_answered_during_a_load_and_health_names_its_model(serve: Serve) -> None:
    async with loading(serve) as (models, _, load):
        get, metric = models.served.client.get, models.served.metric
        assert await models.serving() == (OLD, "aaa")
        health = await get("/health")
        assert (health.status_code, health.json()["status"], health.json()["loading"]) == (200, "ok", NEW)
        assert (await get("/health/ready")).status_code == 200
        assert (await get("/models")).json()["loading"] == NEW
        assert await metric("rcnn_model_loading") == 1
        second = await models.load(OLD)
        assert (second.status_code, second.json()["code"]) == (409, "conflict")
        assert NEW in second.json()["detail"]
        models.new.warm.set()
        assert (await load).json()["model"] == NEW
        assert await metric("rcnn_model_loading") == 0


async def test_a_load_continues_when_its_client_has_left(serve: Serve) -> None:
    async with loading(serve) as (models, service, load):
        load.cancel()
        await asyncio.wait({load})
        models.new.warm.set()
        await eventually(lambda: service.ready_model().name == NEW, "it serves")


async def test_no_model_is_loaded_into_a_draining_service(serve: Serve) -> None:
    async with loading(serve) as (models, service, load):
        service.drain()
        models.new.warm.set()
        assert ((await load).status_code, (await load).json()["code"]) == (503, "draining")
        assert (await models.load()).json()["code"] == "draining"
        assert service.ready_model().name == OLD


# the end


async def test_a_load_that_a_stop_cuts_off_is_answered_so(serve: Serve) -> None:
    async with loading(serve) as (models, service, load):
        await service.close()
        assert ((await load).status_code, (await load).json()["code"]) == (503, "draining")
        assert not service.closed_cleanly
        await service.close()  # as the server's lifespan does once more
        assert not service.closed_cleanly, "a thread still warms the model up"
        models.new.warm.set()
        await eventually(lambda: not service.models.loading, "the thread ends")
        await service.close()
        assert service.closed_cleanly


async def test_a_start_that_a_stop_cuts_off_is_not_clean() -> None:
    detector = FakeDetector()
    detector.warm.clear()
    app = create_app(Settings(), detector)
    service = app.state.service
    async with app.router.lifespan_context(app):
        await eventually(lambda: service.models.loading, "its thread runs")
        await service.close()
        assert not service.closed_cleanly
    assert not service.closed_cleanly, "closed twice, and the thread still warms the model up"
    detector.warm.set()
    await eventually(lambda: not service.models.loading, "the thread ends")


async def test_the_old_model_is_released_with_its_last_answer(serve: Serve) -> None:
    """No cycle holds it: nothing is collected before it must be gone."""
    old, new = [fake(OLD, "aaa", best_batch=2)], fake(NEW, "bbb", best_batch=4)
    loader = Loader({OLD: old[0], NEW: new})
    async with serve(new, loader=loader, admin_keys="chief", max_batch=8) as served:
        models = Swap(served, loader, new, new)
        released = weakref.ref(old[0])
        old[0].free.clear()
        response = models.detect()
        await eventually(lambda: len(old[0].batches) == 1, "the request is on the device")
        assert (await models.load()).status_code == 200
        assert await served.metric("rcnn_models_in_memory") == 2
        gc.disable()
        try:
            old[0].free.set()
            assert made_by(await response) == (OLD, "aaa")
            old[0].batches.clear()
            loader.detectors.clear()
            old.clear()
            await eventually(lambda: released() is None, "nothing holds the old one", COLLECT_SECONDS - 1)
        finally:
            gc.enable()
        assert served.app.state.service.ready_model().flow.batch_limit == 4
        assert await served.metric("rcnn_models_in_memory") == 1
