"""The header Host: whose requests are answered."""

import json

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.main import create_app
from app.settings.settings import Settings
from tests.support.fakes import FakeDetector, picture

DEFAULT = ("localhost", "127.0.0.1", "[::1]")


def settings_for(host: str, hosts: tuple[str, ...] = ()) -> tuple[str, ...]:
    return Settings(host=host, allowed_hosts=hosts).checked_hosts


def test_the_default_is_this_machine_where_nothing_else_can_connect() -> None:
    assert set(settings_for("127.0.0.1")) == set(DEFAULT)
    assert set(settings_for("127.0.0.2")) == {*DEFAULT, "127.0.0.2"}
    assert set(settings_for("localhost")) == set(DEFAULT)
    assert set(settings_for("::1")) == {*DEFAULT, "::1"}
    assert settings_for("0.0.0.0") == settings_for("::") == settings_for("192.168.0.7") == ()  # noqa: S104  # what is tested
    assert settings_for("127.0.0.1", ("*",)) == ()
    assert settings_for("0.0.0.0", ("a.example", "b.example")) == ("a.example", "b.example")  # noqa: S104  # the same


def app_for(*hosts: str) -> FastAPI:
    return create_app(Settings(), FakeDetector(), allowed_hosts=hosts)


async def ask(app: FastAPI, host: str, path: str = "/labels") -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.post(path, content=picture(), headers={"Host": host})


ALLOWED = ("localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8000")
OTHERS = (
    "evil.example",
    "localhost.evil.example",
    "evil.example:8000",
    "127.0.0.2",
    "[::2]:80",
    "::1",
    "",
    "a]b",
)


async def test_a_host_that_is_not_allowed_gets_421() -> None:
    app = app_for(*DEFAULT)
    assert {host: (await ask(app, host)).status_code for host in ALLOWED} == dict.fromkeys(ALLOWED, 405)
    for host in OTHERS:
        refused = await ask(app, host, "/detect")
        assert (refused.status_code, refused.json()["code"]) == (421, "host_not_allowed"), host
        assert refused.headers["X-Request-ID"] == refused.json()["request_id"]
        assert "RCNN_ALLOWED_HOSTS" in refused.json()["detail"]
    metrics = app.state.service.metrics
    assert metrics.registry.get_sample_value("rcnn_rejected_total", {"code": "host_not_allowed"}) == len(
        OTHERS
    )


async def test_an_app_without_hosts_answers_all() -> None:
    assert (await ask(app_for(), "evil.example")).status_code == 405


async def test_the_refusal_is_in_the_dialect_of_its_route() -> None:
    refused = await ask(app_for(*DEFAULT), "evil.example", "/v1/vision/detection")
    assert (refused.status_code, refused.json()["success"]) == (421, False)


async def test_a_web_socket_is_refused_too() -> None:
    sent: list[Message] = []
    scope = {
        "type": "websocket",
        "path": "/detect/live",
        "query_string": b"",
        "subprotocols": [],
        "headers": [(b"host", b"evil.example"), (b"origin", b"http://evil.example")],
    }

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app_for(*DEFAULT)(scope, receive, send)
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 421)
    assert json.loads(sent[1]["body"])["code"] == "host_not_allowed"


TOLD, VERTEX = "/vertex/ready", "/v1/endpoints/12/deployedModels/34"
PROBES = ("/health", "/health/live", "/health/ready", "/metrics", "/ping", "/v2/health/live", TOLD, VERTEX)


@pytest.mark.parametrize("path", PROBES)
async def test_probes_by_address_are_answered(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An orchestrator asks the address of a container; no name leads there that a page could choose."""
    monkeypatch.setenv("AIP_HEALTH_ROUTE", TOLD)
    app = app_for("detect.example.org")
    assert (await ask(app, "10.1.2.3:8000", path)).status_code == 405
    assert (await ask(app, "[fd00::7]:8000", path)).status_code == 405
    assert (await ask(app, "evil.example", path)).status_code == 421
    for other in ("/labels", f"{VERTEX}:predict"):
        assert (await ask(app, "10.1.2.3:8000", other)).status_code == 421
