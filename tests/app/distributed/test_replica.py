"""A replica and the ledger of metrics, in this process. Ray itself runs in test_ray.py."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from app.distributed.metrics_ledger import MetricsLedger
from app.distributed.replica import Replica, replica_app
from app.main import create_app
from app.settings.settings import Settings
from tests.support.fakes import FakeDetector, picture
from tests.support.served import eventually

PNG = {"Content-Type": "image/png"}


class NearLedger:
    """The ledger, called without Ray."""

    def __init__(self, ledger: MetricsLedger, name: str) -> None:
        self._ledger, self._name = ledger, name
        self.unreachable = False

    async def report(self, page: bytes | None) -> bool:
        self._check()
        return await self._ledger.report(self._name, page)

    async def scrape(self) -> dict[str, bytes]:
        self._check()
        return await self._ledger.scrape()

    def _check(self) -> None:
        if self.unreachable:
            raise OSError("unreachable")


class Running:
    """A replica with a fake detector, and a client of it."""

    def __init__(self, ledger: MetricsLedger, name: str, **settings: Any) -> None:
        self.ledger = NearLedger(ledger, name)
        self.app = replica_app(create_app(Settings(**settings), FakeDetector()), name, self.ledger)
        transport = httpx.ASGITransport(self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=20)
        self._lifespan = self.app.router.lifespan_context(self.app)

    async def __aenter__(self) -> "Running":
        await self._lifespan.__aenter__()
        await self.app.state.service.started()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.client.aclose()
        await self._lifespan.__aexit__(None, None, None)


async def test_one_scrape_has_every_replica() -> None:
    ledger = MetricsLedger()
    async with Running(ledger, "a") as a, Running(ledger, "b") as b:
        await eventually(lambda: len(ledger._waiting) == 2, "both replicas wait at the ledger")
        for replica, requests in ((a, 1), (b, 2)):
            for _ in range(requests):
                response = await replica.client.post("/detect", content=picture(), headers=PNG)
                assert response.status_code == 200
        assert response.headers["x-replica"] == "b"
        for scrape in range(2):  # they come back for the next one
            await eventually(lambda: len(ledger._waiting) == 2, "both wait again")
            page = await a.client.get("/metrics")
            lines = page.text.splitlines()
            assert 'rcnn_requests_total{replica="a",route="/detect",status="200"} 1.0' in lines
            assert 'rcnn_requests_total{replica="b",route="/detect",status="200"} 2.0' in lines
            assert lines.count("# TYPE rcnn_requests_total counter") == 1
            assert ('rcnn_requests_total{replica="a",route="/metrics",status="200"} 1.0' in lines) is bool(
                scrape
            )
        assert page.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_a_replica_without_the_ledger_has_its_own_metrics() -> None:
    ledger = MetricsLedger()
    async with Running(ledger, "a") as a:
        a.ledger.unreachable = True
        page = await a.client.get("/metrics")
        assert 'rcnn_model_ready{replica="a"} 1.0' in page.text


async def test_a_replica_that_died_delays_a_scrape_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.distributed.metrics_ledger.PAGE_TIMEOUT_SECONDS", 0.05)
    ledger = MetricsLedger()
    dead = asyncio.create_task(ledger.report("dead", None))
    await eventually(lambda: "dead" in ledger._waiting, "it waits")
    assert await ledger.scrape() == {}
    assert await dead is True
    assert await ledger.scrape() == {}


async def test_a_deadline_runs_from_the_proxy() -> None:
    async with Running(MetricsLedger(), "a") as a:
        late = {**PNG, "X-Request-Start": f"t={time.time() - 20}"}
        response = await a.client.post("/detect?timeout_ms=10000", content=picture(), headers=late)
        assert response.json()["code"] == "deadline_exceeded"
        for harmless in ("t=nan", "never", f"t={time.time() + 99}", f"t={time.time() - 5}"):
            headers = {**PNG, "X-Request-Start": harmless}
            response = await a.client.post("/detect?timeout_ms=10000", content=picture(), headers=headers)
            assert response.status_code == 200, harmless
        assert response.json()["timings_ms"]["total"] >= 5000


async def test_health_is_readiness_and_waits_for_the_model() -> None:
    detector = FakeDetector()
    detector.warm.clear()
    replica = Replica(Settings(), "a", NearLedger(MetricsLedger(), "a"), detector)
    async with replica.application.router.lifespan_context(replica.application):
        check = asyncio.create_task(replica.check_health())
        await eventually(lambda: replica.service.state == "loading", "it loads")
        assert not check.done()
        detector.warm.set()
        await check
        assert replica.service.state == "ok"


async def test_health_says_why_there_is_no_model() -> None:
    replica = Replica(Settings(model="no-such"), "a", NearLedger(MetricsLedger(), "a"))
    async with replica.application.router.lifespan_context(replica.application):
        with pytest.raises(RuntimeError, match="could not be loaded"):
            await replica.check_health()
