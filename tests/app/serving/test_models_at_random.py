"""Random requests, loads, unloads and failures: each accepted request gets one answer, of its model."""

import asyncio
import logging
import random
from collections import Counter
from dataclasses import dataclass, field

import httpx
import pytest

from app.serving.models import release
from tests.support.served import Serve
from tests.support.several import FIRST, SECOND, THIRD, Models, made_by, several

FOURTH = "coco-mobilenet-fpn"
NAMES = (FIRST, SECOND, THIRD, FOURTH)
LIMIT, STEPS = 3, 60
EXPECTED = {  # statuses of requests that are not answered, by their code
    "unknown_model": 404,
    "conflict": 409,
    "load_failed": 422,
    "overloaded": 429,
    "internal": 500,
    "loading": 503,
    "deadline_exceeded": 504,
}


@dataclass
class Drive:
    """One run: what was sent, and what was observed of the models meanwhile."""

    models: Models
    source: random.Random
    codes: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)

    async def request(self) -> None:
        name = self.source.choice(NAMES)
        broken = self.source.random() < 0.1
        if broken and name in self.models.detectors:
            self.models.detectors[name].poison = lambda job: RuntimeError("broken")
        response = await self.models.detect(f"model={name}")
        if name in self.models.detectors:
            self.models.detectors[name].poison = lambda job: None
        if response.status_code == 200:
            assert made_by(response) == name
            self.answered[name] += 1
        else:
            self.check_refusal(response)

    async def load(self) -> None:
        name = self.source.choice(NAMES)
        fails = self.source.random() < 0.3
        if fails:
            self.models.errors[name] = MemoryError()
        response = await self.models.load(name, self.source.choice(("", "?default=true")))
        self.models.errors.pop(name, None)
        if response.status_code != 200:
            self.check_refusal(response)

    async def unload(self) -> None:
        response = await self.models.unload(self.source.choice(NAMES))
        if response.status_code != 200:
            self.check_refusal(response)

    def check_refusal(self, response: httpx.Response) -> None:
        code = response.json()["code"]
        assert response.status_code == EXPECTED[code], response.text
        self.codes[code] += 1

    def check_bound(self, loading: str = FIRST) -> None:
        """The models that serve, with one that is being loaded now, are as many as may be."""
        service = self.models.served.app.state.service
        assert len({*service.models.ready, loading}) <= LIMIT, (list(service.models.ready), loading)

    def check_service(self) -> None:
        service = self.models.served.app.state.service
        self.check_bound(service.models.serving.name)
        assert service.state == "ok"


@pytest.mark.parametrize(("seed", "on_request"), [(1, False), (2, True), (3, True)])
async def test_each_request_gets_one_answer_of_the_model_it_named(
    serve: Serve,
    seed: int,
    on_request: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(release, "COLLECT_SECONDS", 0.3)  # an error holds a model until then
    caplog.set_level(logging.CRITICAL)  # the record of an error would hold its model
    source = random.Random(seed)  # noqa: S311  # no secret
    settings = {"max_loaded_models": LIMIT, "load_on_request": on_request, "timeout_ms": 15_000}
    async with several(serve, FIRST, **settings) as models:
        drive, running = Drive(models, source), set()
        models.on_load = drive.check_bound
        for _ in range(STEPS):
            step = source.choices((drive.request, drive.load, drive.unload), (8, 2, 1))[0]
            running.add(asyncio.ensure_future(step()))
            drive.check_service()
            if len(running) >= 12:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        await asyncio.gather(*running)
        service = models.served.app.state.service
        assert service.idle
        assert (service._admission.slots, service._admission.bytes, service.queue_depth) == (0, 0, 0)
        assert drive.answered  # how many depends on when loads end
        assert made_by(await models.detect()) == service.ready_model().name
