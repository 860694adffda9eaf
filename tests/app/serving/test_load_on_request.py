"""RCNN_LOAD_ON_REQUEST: a request waits for its model, within its time and within bounds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.serving.models import failures
from tests.support.served import Serve, eventually
from tests.support.several import FIRST, SECOND, THIRD, Models, made_by, several


@asynccontextmanager
async def on_request(serve: Serve, most: int = 2, **settings: Any) -> AsyncIterator[Models]:
    async with several(serve, FIRST, max_loaded_models=most, load_on_request=True, **settings) as models:
        yield models


async def test_the_first_request_loads_its_model_and_others_wait_for_the_same_load(serve: Serve) -> None:
    async with on_request(serve) as models:
        query = f"model={SECOND}"
        answers = await asyncio.gather(*(models.detect(query) for _ in range(5)), models.detect())
        assert [made_by(answer) for answer in answers] == [SECOND] * 5 + [FIRST]
        assert models.loaded == [FIRST, SECOND]
        listed = (await models.served.client.get("/models")).json()["models"]
        assert {one["name"]: one["requests"] for one in listed if one["requests"]} == {SECOND: 5, FIRST: 1}


async def test_the_least_recently_used_model_makes_room_and_comes_back(serve: Serve) -> None:
    async with on_request(serve) as models:
        for name in (SECOND, THIRD, SECOND):
            assert made_by(await models.detect(f"model={name}")) == name
        assert models.loaded == [FIRST, SECOND, THIRD, SECOND]
        assert await models.states() == {FIRST: "ready", SECOND: "ready"}


async def test_a_request_that_cannot_be_in_time_is_told_when_to_come_again(serve: Serve) -> None:
    async with on_request(serve) as models:
        models.settings[SECOND] = {"load_error": None}
        gate = asyncio.Event()
        real = models.served.app.state.service.models.load

        async def slow(*arguments: Any) -> Any:
            await gate.wait()
            return await real(*arguments)

        models.served.app.state.service.models.load = slow
        late = await models.detect(f"model={SECOND}&timeout_ms=50")
        assert (late.status_code, late.json()["code"]) == (503, "loading")
        assert int(late.headers["retry-after"]) >= 1
        assert (await models.states())[SECOND] == "loading"
        assert made_by(await models.detect()) == FIRST
        gate.set()
        assert made_by(await models.detect(f"model={SECOND}")) == SECOND


async def test_only_so_many_requests_wait(serve: Serve) -> None:
    async with on_request(serve, max_queue=2) as models:
        service = models.served.app.state.service
        models.loaded.clear()
        gate = asyncio.Event()
        real = service.models.load

        async def slow(*arguments: Any) -> Any:
            await gate.wait()
            return await real(*arguments)

        service.models.load = slow
        waiting = [asyncio.ensure_future(models.detect(f"model={SECOND}")) for _ in range(2)]
        await eventually(lambda: not service.idle and service._admission.depth == 2, "two wait")
        third = await models.detect(f"model={SECOND}")
        assert (third.status_code, third.json()["code"]) == (429, "overloaded")
        gate.set()
        assert [made_by(answer) for answer in await asyncio.gather(*waiting)] == [SECOND] * 2


async def test_a_failed_load_is_remembered_and_tried_again_when_it_is_due(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_request(serve) as models:
        models.errors[SECOND] = ValueError("no such weights file")
        for _ in range(3):
            failed = await models.detect(f"model={SECOND}")
            assert (failed.status_code, failed.json()["code"]) == (422, "load_failed")
            assert "no such weights file" in failed.json()["detail"]
        assert models.loaded == [FIRST, SECOND]
        assert (await models.states())[SECOND] == "failed"
        assert await models.served.metric("rcnn_model_load_failed", model=SECOND) == 1
        del models.errors[SECOND]
        clock = failures.time.monotonic
        monkeypatch.setattr(failures.time, "monotonic", lambda: clock() + failures.FIRST_RETRY_SECONDS)
        assert made_by(await models.detect(f"model={SECOND}&timeout_ms=30000")) == SECOND
        assert "rcnn_model_load_failed{" not in (await models.served.client.get("/metrics")).text


async def test_a_model_that_does_not_fit_is_409_and_an_unknown_one_404(serve: Serve) -> None:
    async with on_request(serve, most=3) as models:
        assert (await models.load(SECOND, "?default=true")).status_code == 200
        source = models.served.app.state.service.models.source
        source.free_bytes = lambda: 1 << 20
        source.needed_bytes = lambda card: 700 << 20
        full = await models.detect(f"model={THIRD}")
        assert (full.status_code, full.json()["code"]) == (409, "conflict")
        assert "needs about 700 MiB" in full.json()["detail"]
        assert "1 are free" in full.json()["detail"]
        assert (await models.detect("model=nonesuch")).status_code == 404
        assert models.loaded == [FIRST, SECOND]
