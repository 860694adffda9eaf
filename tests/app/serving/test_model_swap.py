"""Another model in place of the one that serves: nobody is refused, everybody is answered by one model."""

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.serving.model_swap import COLLECT_SECONDS
from app.settings.settings import Settings
from tests.conftest import AsgiRequest, Serve, Served, eventually
from tests.support.fakes import CARD, FakeDetector, picture

ADMIN = {"X-API-Key": "chief"}
PNG = {"Content-Type": "image/png"}
OLD, NEW = "shapes", "blood-cells"  # both in the zoo: a name must be of the catalogue
OLD_LABELS, NEW_LABELS = CARD.labels, ("background", "kite", "Square", "disc", "cross")


def fake(name: str, version: str, **fields: Any) -> FakeDetector:
    labels = OLD_LABELS if name == OLD else NEW_LABELS
    card = CARD.model_copy(update={"name": name, "labels": labels})
    return FakeDetector(card=card, version=version, **fields)


@dataclass
class Shelf:
    """What a load of each name gives, and what was asked for."""

    detectors: dict[str, FakeDetector | Exception]
    asked: list[str] = field(default_factory=list)

    def __call__(self, model: str) -> FakeDetector:
        self.asked.append(model)
        found = self.detectors[OLD if model == "auto" else Path(model).stem]
        if isinstance(found, Exception):
            raise found
        return found


@asynccontextmanager
async def two(
    serve: Serve, old: FakeDetector, new: FakeDetector | Exception, **settings: Any
) -> AsyncIterator[tuple[Served, Shelf]]:
    """The old one serves, the new one may be loaded."""
    shelf = Shelf({OLD: old, NEW: new})
    async with serve(old, loader=shelf, **{"admin_keys": "chief"} | settings) as served:
        try:
            yield served, shelf
        finally:
            if isinstance(new, FakeDetector):
                new.let_go()


async def load(served: Served, name: str = NEW, **headers: str) -> httpx.Response:
    return await served.client.post(f"/models/{name}/load", headers=ADMIN | headers)


def detect(served: Served, query: str = "") -> "asyncio.Future[httpx.Response]":
    return asyncio.ensure_future(served.client.post(f"/detect?{query}", content=picture(), headers=PNG))


def made_by(response: httpx.Response) -> tuple[str, str]:
    """Name and version, which the answer and its headers agree on."""
    assert response.status_code == 200, response.text
    answer = response.json()
    named = (answer["model"], answer["model_version"])
    assert (response.headers["X-Model"], response.headers["X-Model-Version"]) == named
    return named


async def test_the_other_model_answers_and_everything_names_it(serve: Serve) -> None:
    old = fake(OLD, "aaa", memory={"allocated": 5, "reserved": 9})
    async with two(serve, old, fake(NEW, "bbb", memory={"allocated": 7})) as (served, shelf):
        assert made_by(await detect(served)) == (OLD, "aaa")
        answer = (await load(served)).json()
        assert answer.pop("seconds") >= 0
        previous = {"model": OLD, "model_version": "aaa"}
        assert answer == {"model": NEW, "model_version": "bbb", "previous": previous}
        response = await detect(served)
        assert made_by(response) == (NEW, "bbb")
        assert response.json()["names"] == ["kite", "Square"]
        health = (await served.client.get("/health")).json()
        assert [health[key] for key in ("status", "model", "model_version", "loading")] == [
            *("ok", NEW, "bbb", None)
        ]
        listed = (await served.client.get("/models")).json()
        assert (listed["loaded"], listed["loaded_version"], listed["loading"]) == (NEW, "bbb", None)
        assert [one["name"] for one in listed["models"] if one["loaded"]] == [NEW]
        assert (await served.client.get("/labels")).json()["1"] == "kite"
        assert shelf.asked[1].endswith(f"models/zoo/{NEW}.toml")
        assert await served.metric("rcnn_device_memory_bytes", device="cpu", kind="allocated") == 7
        text = (await served.client.get("/metrics")).text
        assert text.count("rcnn_model_info{") == 1
        assert 'version="bbb"' in text
        assert 'kind="reserved"' not in text
        assert await served.metric("rcnn_model_swaps_total", outcome="switched") == 1
        assert await served.metric("rcnn_detections_total", model=OLD) == 2
        assert await served.metric("rcnn_detections_total", model=NEW) == 2


async def test_what_waits_at_the_switch_is_answered_by_the_old_model(serve: Serve) -> None:
    old, new = fake(OLD, "aaa"), fake(NEW, "bbb")
    async with two(serve, old, new) as (served, _):
        old.free.clear()
        early = [detect(served, "classes=Square,disc") for _ in range(3)]
        service = served.app.state.service
        await eventually(lambda: len(old.prepared) == 3 and len(old.batches) == 1, "one is on the device")
        await eventually(lambda: len(old.reached) + service.queue_depth == 3, "the others wait for it")
        assert (await load(served)).status_code == 200
        late = [detect(served, "classes=Square,disc") for _ in range(2)]
        await eventually(lambda: len(new.prepared) == 2, "the late ones are prepared for the new model")
        assert not new.batches
        old.free.set()
        answers = await asyncio.gather(*early, *late)
        assert [made_by(answer) for answer in answers] == [(OLD, "aaa")] * 3 + [(NEW, "bbb")] * 2
        assert [answer.json()["names"] for answer in answers] == [["Square", "disc"]] * 3 + [["Square"]] * 2
        assert [answer.json()["labels"] for answer in answers] == [[1, 2]] * 3 + [[2]] * 2
        assert (len(old.reached), len(new.reached)) == (3, 2)


SLOW: dict[str, tuple[str, bytes, str]] = {
    "detect": ("/detect?classes=Square", picture(), "image/png"),
    "huggingface": (f"/models/{OLD}", picture(), "image/png"),
    "deepstack": (
        "/v1/vision/detection",
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        + picture()
        + b"\r\n--b--\r\n",
        "multipart/form-data; boundary=b",
    ),
}


@pytest.mark.parametrize(("url", "body", "media_type"), SLOW.values(), ids=SLOW)
async def test_a_body_that_arrives_after_the_switch_is_the_old_models(
    serve: Serve, url: str, body: bytes, media_type: str
) -> None:
    old, new = fake(OLD, "aaa"), fake(NEW, "bbb")
    async with two(serve, old, new, deepstack_drop_labels="kite") as (served, _):
        caller = AsgiRequest(served.app, url, {"Content-Type": media_type})
        caller.send(body[:50], more=True)
        await eventually(lambda: caller.read_all, "the server waits for the rest")
        assert (await load(served)).status_code == 200
        caller.send(body[50:])
        await caller.answered()
        assert caller.status == 200
        assert (caller.headers["x-model"], caller.headers["x-model-version"]) == (OLD, "aaa")
        assert (len(old.reached), len(new.reached)) == (1, 0)


async def test_traffic_goes_on_and_health_says_what_loads(serve: Serve) -> None:
    new = fake(NEW, "bbb")
    async with two(serve, fake(OLD, "aaa"), new) as (served, _):
        new.warm.clear()
        loading = asyncio.ensure_future(load(served))
        await eventually(lambda: served.app.state.service.models.serving is not None, "the service is ready")
        service = served.app.state.service
        await eventually(lambda: service.swapper.loading == NEW, "the new one loads")
        assert made_by(await detect(served)) == (OLD, "aaa")
        response = await served.client.get("/health")
        assert (response.status_code, response.json()["status"], response.json()["loading"]) == (
            200,
            "ok",
            NEW,
        )
        assert (await served.client.get("/health/ready")).status_code == 200
        assert (await served.client.get("/models")).json()["loading"] == NEW
        assert await served.metric("rcnn_model_loading") == 1
        second = await load(served, OLD)
        assert (second.status_code, second.json()["code"]) == (409, "conflict")
        assert NEW in second.json()["detail"]
        new.warm.set()
        assert (await loading).json()["model"] == NEW
        assert await served.metric("rcnn_model_loading") == 0


FAILURES: dict[str, tuple[Exception, str]] = {
    "a card": (ValueError("no such weights file"), "no such weights file"),
    "memory": (MemoryError(), "not enough memory"),
    "a fault of ours": (KeyError("secret"), "the service's log has the reason"),
}


@pytest.mark.parametrize(("error", "told"), FAILURES.values(), ids=FAILURES)
async def test_a_failed_load_leaves_everything_as_it_was(serve: Serve, error: Exception, told: str) -> None:
    async with two(serve, fake(OLD, "aaa"), error) as (served, _):
        response = await load(served)
        assert (response.status_code, response.json()["code"]) == (422, "load_failed")
        assert told in response.json()["detail"]
        assert "secret" not in response.text
        assert made_by(await detect(served)) == (OLD, "aaa")
        assert (await served.client.get("/health")).json()["loading"] is None
        assert await served.metric("rcnn_model_swaps_total", outcome="failed") == 1
        assert await served.metric("rcnn_models_in_memory") == 1


async def test_a_warm_up_that_fails_leaves_no_second_model(serve: Serve) -> None:
    async with two(
        serve, fake(OLD, "aaa"), fake(NEW, "bbb", load_error=OSError("the device is gone"))
    ) as both:
        response = await load(both[0])
        assert (response.status_code, response.json()["code"]) == (422, "load_failed")
        assert made_by(await detect(both[0])) == (OLD, "aaa")


@pytest.mark.parametrize(
    "name",
    ["nonesuch", "..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fx.toml", "shapes.toml", "SHAPES", "auto", "x" * 300],
)
async def test_only_a_name_of_the_catalogue_is_loaded(serve: Serve, name: str) -> None:
    async with two(serve, fake(OLD, "aaa"), fake(NEW, "bbb")) as (served, shelf):
        response = await load(served, name)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        assert shelf.asked == ["auto"]


REFUSED: dict[str, tuple[dict[str, str], dict[str, str], str, int, str]] = {
    "off": ({"admin_keys": ""}, ADMIN, "", 403, "RCNN_ADMIN_KEYS"),
    "off, with a key for requests": (
        {"admin_keys": "", "api_keys": "chief"},
        ADMIN,
        "",
        403,
        "RCNN_ADMIN_KEYS",
    ),
    "no key": ({}, {}, "", 401, "no key was sent"),
    "another key": ({}, {"X-API-Key": "thief"}, "", 401, "may not load models"),
    "a key for requests": ({"api_keys": "guest"}, {"X-API-Key": "guest"}, "", 401, "may not load models"),
    "in the query": ({}, {}, "?api_key=chief&X-API-Key=chief&key=chief", 401, "no key was sent"),
}


@pytest.mark.parametrize(("settings", "headers", "query", "status", "told"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("path", [f"/models/{NEW}/load", f"/v2/repository/models/{NEW}/load"])
async def test_who_may_not_load_is_refused(
    serve: Serve,
    path: str,
    settings: dict[str, str],
    headers: dict[str, str],
    query: str,
    status: int,
    told: str,
) -> None:
    given: dict[str, Any] = {name: value for name, value in settings.items() if value}
    if "admin_keys" in settings:
        given["admin_keys"] = ()
    async with two(serve, fake(OLD, "aaa"), fake(NEW, "bbb"), **given) as (served, shelf):
        response = await served.client.post(path + query, headers=headers)
        assert response.status_code == status
        assert told in response.text
        assert shelf.asked == ["auto"]


async def test_a_key_that_loads_models_opens_nothing_else(serve: Serve) -> None:
    async with two(serve, fake(OLD, "aaa"), fake(NEW, "bbb"), api_keys="guest") as (served, _):
        response = await served.client.post("/detect", content=picture(), headers=ADMIN | PNG)
        assert response.status_code == 401
        assert (await load(served, Authorization="Bearer chief")).status_code == 200


async def test_the_same_name_is_read_again(serve: Serve) -> None:
    async with two(serve, fake(OLD, "aaa"), fake(NEW, "bbb")) as (served, shelf):
        shelf.detectors[OLD] = fake(OLD, "aab")
        assert (await load(served, OLD)).json()["model_version"] == "aab"
        assert made_by(await detect(served)) == (OLD, "aab")
        shelf.detectors[OLD] = fake(NEW, "bbb")  # the card names another model now
        response = await load(served, OLD)
        assert (response.status_code, response.json()["code"]) == (422, "load_failed")
        assert made_by(await detect(served)) == (OLD, "aab")


async def test_the_old_model_goes_with_its_last_answer_and_leaves_its_cap(serve: Serve) -> None:
    """No cycle holds it: nothing is collected before it must be gone."""
    old, new = [fake(OLD, "aaa", best_batch=2)], fake(NEW, "bbb", best_batch=4)
    shelf = Shelf({OLD: old[0], NEW: new})
    async with serve(new, loader=shelf, admin_keys="chief", max_batch=8) as served:
        gone = weakref.ref(old[0])
        old[0].free.clear()
        caller = detect(served)
        await eventually(lambda: len(old[0].batches) == 1, "the request is on the device")
        assert (await load(served)).status_code == 200
        assert await served.metric("rcnn_models_in_memory") == 2
        batcher = served.app.state.service._batcher
        assert batcher.max_batch == 2
        gc.disable()
        try:
            old[0].free.set()
            assert made_by(await caller) == (OLD, "aaa")
            old[0].batches.clear()
            shelf.detectors.clear()
            old.clear()
            await eventually(lambda: gone() is None, "nothing holds the old detector", COLLECT_SECONDS - 1)
        finally:
            gc.enable()
        await eventually(lambda: batcher.max_batch == 4, "the new one has a cap of its own")
        assert await served.metric("rcnn_models_in_memory") == 1


async def test_a_load_whose_client_left_goes_on(serve: Serve) -> None:
    new = fake(NEW, "bbb")
    async with two(serve, fake(OLD, "aaa"), new) as (served, _):
        new.warm.clear()
        loading = asyncio.ensure_future(load(served))
        await eventually(lambda: served.app.state.service.swapper.loading == NEW, "the new one loads")
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        new.warm.set()
        await eventually(lambda: served.app.state.service.ready_model().name == NEW, "it serves")


async def test_nothing_is_loaded_into_a_service_that_stops(serve: Serve) -> None:
    new = fake(NEW, "bbb")
    async with two(serve, fake(OLD, "aaa"), new) as (served, _):
        new.warm.clear()
        loading = asyncio.ensure_future(load(served))
        await eventually(lambda: served.app.state.service.swapper.loading == NEW, "the new one loads")
        served.app.state.service.drain()
        new.warm.set()
        assert ((await loading).status_code, (await loading).json()["code"]) == (503, "draining")
        assert (await load(served)).json()["code"] == "draining"
        assert served.app.state.service.ready_model().name == OLD


async def test_a_load_that_a_stop_cuts_off_is_told_so(serve: Serve) -> None:
    new = fake(NEW, "bbb")
    async with two(serve, fake(OLD, "aaa"), new) as (served, shelf):
        new.warm.clear()
        loading = asyncio.ensure_future(load(served))
        service = served.app.state.service
        await eventually(lambda: len(shelf.asked) == 2, "the new one loads, after the one of the start")
        await service.close()
        assert ((await loading).status_code, (await loading).json()["code"]) == (503, "draining")
        assert not service.closed_cleanly
        await service.close()  # as the server's lifespan does once more
        assert not service.closed_cleanly, "a thread is in the model as long as it is"
        new.warm.set()
        await eventually(lambda: not service.models.loading, "the thread ends")
        await service.close()
        assert service.closed_cleanly


async def test_a_start_that_a_stop_cuts_off_is_not_settled() -> None:
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


INDEX = "/v2/repository/index"


async def test_the_repository_as_tritons_clients_see_it(serve: Serve) -> None:
    async with two(serve, fake(OLD, "aaa"), fake(NEW, "bbb"), api_keys="guest") as (served, _):
        post = served.client.post
        guest = {"X-API-Key": "guest"}
        rows = {row["name"]: row for row in (await post(INDEX, headers=guest)).json()}
        assert rows[OLD] == {"name": OLD, "version": "aaa", "state": "READY", "reason": ""}
        assert rows[NEW] == {"name": NEW, "version": "", "state": "UNAVAILABLE", "reason": "not loaded"}
        assert len((await post(INDEX, headers=guest, json={"ready": True})).json()) == 1
        assert (await post(INDEX)).status_code == 401
        unload, only = (
            f"/v2/repository/models/{OLD}/unload",
            await post(f"/v2/repository/models/{OLD}/unload", headers=ADMIN),
        )
        assert only.status_code == 409
        assert "load another" in only.json()["error"]
        configured = {"parameters": {"config": json.dumps({"max_batch_size": 4})}}
        response = await post(f"/v2/repository/models/{NEW}/load", headers=ADMIN, json=configured)
        assert (response.status_code, "config" in response.json()["error"]) == (422, True)
        assert (await post(f"/v2/repository/models/{NEW}/load", headers=ADMIN)).json() == {}
        assert (await post(unload, headers=ADMIN)).json() == {}
        assert (await post("/v2/repository/models/nonesuch/unload", headers=ADMIN)).status_code == 404
        metadata = (await served.client.get(f"/v2/models/{NEW}", headers=guest)).json()
        assert metadata["versions"] == ["1", "bbb"]
        pinned = f"/v2/models/{NEW}/versions"
        assert (await served.client.get(f"{pinned}/bbb/ready", headers=guest)).status_code == 200
        assert (await served.client.get(f"{pinned}/aaa/ready", headers=guest)).status_code == 404
