"""What is ours of the service on Ray: arguments, door, replica, ledger. Ray itself runs in test_ray.py."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import yaml
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from app.distributed.arguments import LAST_ANSWERS_SECONDS, Arguments
from app.distributed.metrics_ledger import MetricsLedger
from app.distributed.proxy import ProxyMiddleware
from app.distributed.ray_serve import build, options
from app.distributed.replica import Replica, replica_app
from app.main import create_app
from app.settings.settings import Settings
from tests.support.fakes import FakeDetector, picture
from tests.support.served import ROOT, eventually

PNG = {"Content-Type": "image/png"}
Rays = Callable[[Scope, Receive, Send], Awaitable[None]]


def arguments(**given: Any) -> Arguments:
    return Arguments.model_validate(given)  # as Ray does with the words of its command line


def test_words_of_the_command_line_become_replicas_and_settings() -> None:
    given = arguments(model="shapes", replicas="2", max_queue="7", drain_seconds="3")
    settings = given.settings()
    assert (settings.model, settings.max_queue, given.most) == ("shapes", 7, 2)
    wanted = options(given, settings)
    assert wanted["num_replicas"] == 2
    assert wanted["max_ongoing_requests"] == 7  # what a replica's own door lets in
    assert wanted["max_queued_requests"] == 14  # what they hold together
    assert wanted["graceful_shutdown_timeout_s"] == 3 + LAST_ANSWERS_SECONDS


def test_replicas_share_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    assert arguments(replicas=cores).settings().inference_threads == 1
    assert arguments(replicas=10 * cores).settings().decode_threads == 1
    assert arguments().settings().inference_threads == cores
    own = arguments(replicas=cores, threads=3).settings()
    assert options(arguments(), own)["ray_actor_options"]["num_cpus"] == 3


def test_replicas_scale_on_what_is_inside_them() -> None:
    given = arguments(replicas=1, max_replicas=3, max_batch=4, downscale_seconds=60)
    scale = options(given, given.settings())["autoscaling_config"]
    assert (scale["min_replicas"], scale["max_replicas"], scale["target_ongoing_requests"]) == (1, 3, 4)
    assert scale["downscale_delay_s"] == 60


def test_a_gpu_each_where_one_is_asked_for() -> None:
    assert arguments(device="cpu").gpus_of(Settings(device="cpu")) == 0
    assert arguments(device="cuda").gpus_of(Settings(device="cuda")) == 1
    assert arguments(gpus=0.5).gpus_of(Settings(device="cpu")) == 0.5


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_queu": "1"}, "did you mean RCNN_MAX_QUEUE"),
        ({"replicas": "0"}, "greater than or equal to 1"),
        ({"replicas": "3", "max_replicas": "2"}, "max_replicas=2 is less than replicas=3"),
        ({"timeout_ms": "5"}, "set RCNN_TIMEOUT_MS in the environment of every Ray node"),
        ({"grpc_port": "9000"}, "replicas on one machine would share the port"),
        ({"device": "cuda:1"}, "say device=cuda"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(given: dict[str, str], told: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=told):
        arguments(**given).settings()


def test_the_example_is_valid() -> None:
    config = yaml.safe_load((ROOT / "docker/ray/serve.yaml").read_text())
    [application] = config["applications"]
    assert application["import_path"] == f"{build.__module__}:{build.__name__}"
    given = arguments(**application["args"])
    assert given.settings().drain_seconds == 30
    assert config["http_options"]["host"] == "127.0.0.1"  # as everywhere, open to this machine alone


# the door, with what stands for Ray's proxy behind it


def says(status: int, content_type: str, body: bytes = b"said") -> Rays:
    async def rays(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", content_type.encode()), (b"x-request-id", b"a"), (b"x-request-id", b"b")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return rays


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """As Ray's proxy when the replica with the request has died."""


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    """As Ray's proxy while no replica has room; it ends when the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def through(rays: Rays, url: str = "/detect", **asked: Any) -> httpx.Response:
    settings = Settings(timeout_ms=asked.pop("timeout_ms", 30_000), max_body_bytes=1024)
    transport = httpx.ASGITransport(ProxyMiddleware(rays, settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post(url, **asked)


@pytest.mark.parametrize(
    ("rays", "status", "code"),
    [
        (silent, 503, "failing"),
        (says(429, "text/plain"), 429, "overloaded"),
        (says(503, "text/plain"), 503, "failing"),
        (says(500, "text/plain; charset=utf-8"), 503, "failing"),
        (says(404, "text/plain"), 503, "loading"),
    ],
)
async def test_what_ray_says_becomes_a_problem_that_may_be_tried_again(
    rays: Rays, status: int, code: str
) -> None:
    response = await through(rays, headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers.get_list("x-request-id") == ["mine"]
    assert response.json()["request_id"] == "mine"


async def test_an_error_is_told_in_the_routes_own_dialect() -> None:
    response = await through(silent, "/v1/models/shapes:predict")
    assert response.status_code == 503
    assert "error" in response.json()
    assert "code" not in response.json()


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
async def test_what_a_replica_says_passes_as_it_is(status: int) -> None:
    response = await through(says(status, "application/problem+json"), headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.text) == (status, "said")
    assert response.headers.get_list("x-request-id") == ["mine"]


async def test_plain_text_that_is_no_error_passes() -> None:
    assert (await through(says(200, "text/plain"))).text == "said"


async def test_rays_own_routes_pass() -> None:
    assert (await through(says(503, "text/plain"), "/-/healthz")).text == "said"


async def test_a_request_that_nobody_takes_is_given_up_in_its_time() -> None:
    before = time.monotonic()
    response = await through(never, "/detect?timeout_ms=1")
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    assert time.monotonic() - before < 20  # not the server's 30 s


async def test_a_body_without_end_is_not_kept() -> None:
    read = 0

    async def pieces() -> Any:
        nonlocal read
        for _ in range(100):
            read += 1
            yield bytes(512)

    response = await through(never, content=pieces())
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert read <= 4


async def test_the_door_stamps_id_and_time_and_takes_away_what_steers_ray() -> None:
    seen: dict[str, str] = {}

    async def rays(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update({name.decode(): value.decode() for name, value in scope["headers"]})
        await says(200, "application/json")(scope, receive, send)

    sent = {"X-Request-ID": "no good id", "X-Request-Timeout-Seconds": "9", "X-Request-Start": "t=0"}
    response = await through(rays, headers=sent)
    assert seen["x-request-id"] == response.headers["x-request-id"] != "no good id"
    assert "x-request-timeout-seconds" not in seen
    assert abs(float(seen["x-request-start"].removeprefix("t=")) - time.time()) < 10


async def test_a_client_that_left_is_told_nothing() -> None:
    sent: list[Message] = []

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/detect", "method": "POST", "headers": [], "query_string": b""}
    await ProxyMiddleware(never, Settings())(scope, gone, send)
    assert sent == []


# replicas, with the ledger beside them instead of in a process of its own


class Near:
    """The ledger without Ray between."""

    def __init__(self, ledger: MetricsLedger, name: str) -> None:
        self._ledger, self._name = ledger, name
        self.away = False

    async def turn(self, page: bytes | None) -> bool:
        self._check()
        return await self._ledger.turn(self._name, page)

    async def scrape(self) -> dict[str, bytes]:
        self._check()
        return await self._ledger.scrape()

    def _check(self) -> None:
        if self.away:
            raise OSError("away")


class Running:
    """A replica with a fake detector, and a client of it."""

    def __init__(self, ledger: MetricsLedger, name: str, **settings: Any) -> None:
        self.near = Near(ledger, name)
        self.app = replica_app(create_app(Settings(**settings), FakeDetector()), name, self.near)
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


async def test_a_replica_without_the_ledger_tells_its_own() -> None:
    ledger = MetricsLedger()
    async with Running(ledger, "a") as a:
        a.near.away = True
        page = await a.client.get("/metrics")
        assert 'rcnn_model_ready{replica="a"} 1.0' in page.text


async def test_a_replica_that_died_holds_up_no_scrape_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.distributed.metrics_ledger.PATIENCE_SECONDS", 0.05)
    ledger = MetricsLedger()
    dead = asyncio.create_task(ledger.turn("dead", None))
    await eventually(lambda: "dead" in ledger._waiting, "it waits")
    assert await ledger.scrape() == {}
    assert await dead is True  # its call came back, to nobody
    assert await ledger.scrape() == {}


async def test_a_deadline_runs_from_the_door() -> None:
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
    replica = Replica(Settings(model="shapes", engine="torch"), "a", Near(MetricsLedger(), "a"))
    async with replica.application.router.lifespan_context(replica.application):
        assert replica.service.state == "loading"
        await replica.check_health()
        assert replica.service.state == "ok"


async def test_health_says_why_there_is_no_model() -> None:
    replica = Replica(Settings(model="no-such"), "a", Near(MetricsLedger(), "a"))
    async with replica.application.router.lifespan_context(replica.application):
        with pytest.raises(RuntimeError, match="could not be loaded"):
            await replica.check_health()
