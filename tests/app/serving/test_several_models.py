"""Several models in one process: which one answers, what is loaded, unloaded and refused."""

import asyncio
import base64
import gc
import weakref

import pytest

from app.serving.models.release import COLLECT_SECONDS
from tests.support.fakes import picture
from tests.support.model_swap import PNG
from tests.support.served import Serve, eventually
from tests.support.several import FIRST, SECOND, THIRD, Models, made_by, several

IMAGE = base64.b64encode(picture()).decode()
ALIASES = {"model_aliases": f"cells/7={SECOND},blood={SECOND}"}


# names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", FIRST),
        (FIRST, FIRST),
        (SECOND, SECOND),
        (f"{SECOND}/1", SECOND),
        (f"{SECOND}/{SECOND}-1", SECOND),
        ("cells/7", SECOND),
        ("blood", SECOND),
        ("blood/1", SECOND),
        (f"cells/7/{SECOND}-1", SECOND),
    ],
)
async def test_a_request_is_answered_by_the_model_that_it_names(serve: Serve, text: str, name: str) -> None:
    async with several(serve, **ALIASES) as models:
        given = {"model": text} if text else {}
        query = f"model={text}" if text else ""
        assert made_by(await models.detect(query)) == name
        assert made_by(await models.detect(json={"image": IMAGE, **given})) == name
        file = {"image": ("a.png", picture(), "image/png")}
        assert made_by(await models.detect(files=file, data=given)) == name
        labels = (await models.served.client.get("/labels", params=given)).json()
        assert labels["1"] == models.detectors[name].card.labels[1]


@pytest.mark.parametrize(
    "text", ["nonesuch", THIRD, f"{FIRST}/2", "cells", f"{FIRST}/", "/", "a/b/c", FIRST.upper()]
)
async def test_another_name_is_404_and_those_that_serve_are_named(serve: Serve, text: str) -> None:
    async with several(serve, **ALIASES) as models:
        for response in (
            await models.detect(f"model={text}"),
            await models.detect(json={"image": IMAGE, "model": text}),
            await models.served.client.get("/labels", params={"model": text}),
        ):
            problem = response.json()
            assert (response.status_code, problem["code"]) == (404, "unknown_model")
            known = f"{FIRST} is at" if text == f"{FIRST}/2" else f"{FIRST!r} (the default), {SECOND!r}"
            assert known in problem["detail"]
            assert (f"POST /models/{THIRD}/load" in problem["detail"]) == (text == THIRD)
        assert models.loaded == [FIRST, SECOND]


async def test_classes_are_those_of_the_model_wherever_it_is_named(serve: Serve) -> None:
    async with several(serve) as models:
        body = {"json": {"image": IMAGE, "model": SECOND}}
        assert (await models.detect("classes=kite", **body)).json()["labels"] == [1]
        assert (await models.detect("classes=cross", **body)).json()["labels"] == []
        refused = await models.detect("classes=cross", json={"image": IMAGE})
        assert (refused.status_code, SECOND in refused.text) == (422, False)
        twice = await models.detect(f"model={FIRST}", **body)
        assert (twice.status_code, twice.json()["code"]) == (422, "invalid_parameter")


# several models for one image


async def test_several_models_answer_one_request_from_one_decoded_image(serve: Serve) -> None:
    async with several(serve) as models:
        for response in (
            await models.detect(f"model={FIRST}&model={SECOND}&model={THIRD}&classes=disc"),
            await models.detect("classes=disc", json={"image": IMAGE, "model": [FIRST, SECOND, THIRD]}),
        ):
            assert response.status_code == 200, response.text
            assert "X-Model" not in response.headers
            results = response.json()["results"]
            assert list(results) == [FIRST, SECOND, THIRD]
            assert [results[name]["model"] for name in (FIRST, SECOND)] == [FIRST, SECOND]
            assert [results[name]["labels"] for name in (FIRST, SECOND)] == [[2], []]
            assert results[THIRD]["error"]["code"] == "unknown_model"
        broken = await models.detect(f"model={FIRST}&model={SECOND}", content=b"none", headers=PNG)
        assert (broken.status_code, broken.json()["code"]) == (400, "invalid_image")


@pytest.mark.parametrize(
    "path", ["/detect?format=png&", "/detect?format=coco&", "/detect/batch?", "/detect/stream?"]
)
async def test_several_models_are_for_one_image_in_json(serve: Serve, path: str) -> None:
    async with several(serve) as models:
        files = {"image": ("a.png", picture(), "image/png")}
        response = await models.served.client.post(f"{path}model={FIRST}&model={SECOND}", files=files)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
        assert "model" in response.json()["detail"]


# loads and unloads


async def test_a_model_is_loaded_beside_the_others_and_unloaded_again(serve: Serve) -> None:
    async with several(serve, max_loaded_models=3) as models:
        answer = (await models.load(THIRD)).json()
        assert (answer["model"], answer["previous"]) == (THIRD, None)
        assert [made_by(await models.detect(f"model={name}")) for name in (FIRST, SECOND, THIRD)] == [
            *(FIRST, SECOND, THIRD)
        ]
        assert made_by(await models.detect()) == FIRST
        assert await models.states() == dict.fromkeys((FIRST, SECOND, THIRD), "ready")
        assert await models.served.metric("rcnn_models_in_memory") == 3
        gone = await models.unload(THIRD)
        assert (gone.status_code, gone.json()) == (200, {"model": THIRD, "model_version": f"{THIRD}-1"})
        assert (await models.detect(f"model={THIRD}")).status_code == 404
        assert (await models.unload(THIRD)).json()["code"] == "unknown_model"
        assert (await models.unload(FIRST)).json()["code"] == "conflict"
        assert (await models.unload(SECOND)).status_code == 200


async def test_a_load_may_make_a_model_the_default(serve: Serve) -> None:
    async with several(serve, max_loaded_models=3) as models:
        assert (await models.load(THIRD, "?default=true")).status_code == 200
        assert made_by(await models.detect()) == THIRD
        assert made_by(await models.detect(f"model={FIRST}")) == FIRST
        again = (await models.load(SECOND, "?default=true")).json()
        assert again["previous"] == {"model": SECOND, "model_version": f"{SECOND}-1"}
        assert made_by(await models.detect()) == SECOND
        health = (await models.served.client.get("/health")).json()
        assert (health["model"], health["model_version"]) == (SECOND, f"{SECOND}-2")


async def test_the_least_recently_used_model_that_nobody_named_makes_room(serve: Serve) -> None:
    async with several(serve, FIRST, max_loaded_models=3) as models:
        await models.load(SECOND)
        await models.load(THIRD)
        await models.detect(f"model={SECOND}")
        assert (await models.load("coco-mobilenet-fpn")).status_code == 200
        assert set(await models.states()) == {FIRST, SECOND, "coco-mobilenet-fpn"}
    async with several(serve) as models:
        full = await models.load(THIRD)
        assert (full.status_code, full.json()["code"]) == (409, "conflict")
        assert "RCNN_MAX_LOADED_MODELS allows 2" in full.json()["detail"]
        assert await models.states() == {FIRST: "ready", SECOND: "ready"}


async def test_an_unloaded_model_answers_what_it_has_begun_and_then_its_memory_is_free(serve: Serve) -> None:
    async with several(serve, max_loaded_models=3) as models:
        await models.load(THIRD)
        held = [models.detectors.pop(THIRD)]
        third, free = weakref.ref(held[0]), held[0].free
        free.clear()
        answer = asyncio.ensure_future(models.detect(f"model={THIRD}"))
        await eventually(lambda: bool(held[0].batches), "it is on the device")
        assert (await models.unload(THIRD)).status_code == 200
        assert (await models.states())[THIRD] == "unloading"
        again = asyncio.ensure_future(models.load(THIRD))
        gc.disable()
        try:
            free.set()
            assert made_by(await answer) == THIRD
            held.clear()
            await eventually(lambda: third() is None, "nothing holds it", COLLECT_SECONDS - 1)
        finally:
            gc.enable()
        assert (await again).json()["model_version"] == f"{THIRD}-2"


async def test_a_failed_load_leaves_the_others_answering(serve: Serve) -> None:
    async with several(serve, max_loaded_models=3) as models:
        models.errors[THIRD] = MemoryError()
        failed = await models.load(THIRD)
        assert (failed.status_code, failed.json()["code"]) == (422, "load_failed")
        assert made_by(await models.detect(f"model={SECOND}")) == SECOND
        assert (await models.states())[THIRD] == "failed"
        del models.errors[THIRD]
        assert (await models.load(THIRD)).status_code == 200
        assert (await models.states())[THIRD] == "ready"


async def test_a_model_whose_batches_fail_leaves_the_others_answering(serve: Serve) -> None:
    async with several(serve) as models:
        models.detectors[SECOND].poison = lambda job: RuntimeError("broken weights")
        assert (await models.detect(f"model={SECOND}")).status_code == 500
        assert made_by(await models.detect()) == FIRST
        assert (await models.served.client.get("/health")).json()["status"] == "ok"


async def test_a_hangup_reloads_every_model(serve: Serve) -> None:
    async with several(serve) as models:
        models.served.app.state.service.reload_models()
        await eventually(lambda: len(models.loaded) == 4, "both are loaded again")
        ready = models.served.app.state.service.models.ready
        await eventually(lambda: ready[SECOND].version == f"{SECOND}-2", "both serve")
        assert ready[FIRST].version == f"{FIRST}-2"
        assert made_by(await models.detect()) == FIRST


async def test_a_start_needs_every_named_model(serve: Serve) -> None:
    models = Models(errors={SECOND: ValueError("no such weights file")})
    async with serve(loader=models, ready=False, model=f"{FIRST},{SECOND}") as served:
        service = served.app.state.service
        await eventually(lambda: service.failed_to_load, "the start has failed")
        assert (await served.client.get("/health/ready")).status_code == 503
