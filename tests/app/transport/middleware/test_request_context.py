"""Around every request: its id, its log line, its metrics, the bound on bodies, and the last resort."""

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.serving.byte_account import BodyAccounts
from app.settings.settings import Settings
from app.telemetry.logs import JsonLines, configure_logging, request_id
from app.telemetry.metrics import Metrics
from app.transport.middleware.body_limit import BodyLimit
from app.transport.middleware.request_context import RequestContext
from tests.support.fakes import picture
from tests.support.protocols import PNG, encoded
from tests.support.served import Serve, Served

AS_PNG = {"Content-Type": "image/png"}


def access_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "app.access"]


# id, log line, metrics


async def test_a_request_keeps_its_id_or_gets_a_new_one(served: Served) -> None:
    for sent in ("a", "A-Za.z0_9", "x" * 128):
        response = await served.client.get("/nowhere", headers={"X-Request-ID": sent})
        assert (response.headers["x-request-id"], response.json()["request_id"]) == (sent, sent)
    new = {(await served.client.get("/health/live")).headers["x-request-id"] for _ in range(20)}
    assert len(new) == 20
    assert {len(identity) for identity in new} == {32}


async def test_the_line_of_a_request_says_who_sent_what_and_what_was_found(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    image = picture()
    with caplog.at_level(logging.INFO):
        response = await served.client.post("/detect", content=image, headers=AS_PNG)
    [line] = access_lines(caplog)
    said = {
        name: getattr(line, name) for name in ("client", "received", "sent", "model", "images", "objects")
    }
    assert said == {
        "client": "127.0.0.1",
        "received": len(image),
        "sent": len(response.content),
        "model": "fake",
        "images": 1,
        "objects": 2,
    }
    assert line.queue_ms >= 0  # type: ignore[attr-defined]  # of `extra`
    assert f" client=127.0.0.1 received={len(image)} " in line.getMessage()


async def test_requests_are_logged_and_counted_by_template(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for path in ("/web/app.js?secret=1", "/web/base.css", "/web/none.js", "/nowhere/at/1", "/detect"):
            await served.client.get(path)
        await served.client.post("/nowhere/at/all", content=b"x")
    messages = [record.getMessage() for record in access_lines(caplog)]
    assert [" ".join(message.split(" ")[:3]) for message in messages] == [
        "GET /web/{name} 200",
        "GET /web/{name} 200",
        "GET /web/{name} 404",
        "GET unmatched 404",
        "GET /detect 405",
        "POST unmatched 404",
    ]
    assert await served.metric("rcnn_requests_total", route="/web/{name}", status="200") == 2
    assert await served.metric("rcnn_requests_total", route="/web/{name}", status="404") == 1
    assert await served.metric("rcnn_requests_total", route="unmatched", status="404") == 2
    assert await served.metric("rcnn_request_duration_seconds_count", route="/web/{name}") == 3
    assert await served.metric("rcnn_rejected_total", code="not_found") == 3


TOLD, VERTEX = "/vertex", "/v1/endpoints/12/deployedModels/34"
PROBES = ("/health", "/health/live", "/health/ready", "/metrics", "/ping", TOLD, f"{TOLD}/", VERTEX)


async def test_probes_are_logged_only_when_they_fail(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIP_HEALTH_ROUTE", TOLD)
    monkeypatch.setenv("AIP_PREDICT_ROUTE", TOLD)
    async with serve() as served:
        with caplog.at_level(logging.INFO):
            for path in PROBES:
                assert (await served.client.get(path)).status_code == 200, path
            assert access_lines(caplog) == []
            body = {"instances": [{"b64": encoded(PNG)}]}
            assert (await served.client.post(TOLD, json=body)).status_code == 200
            assert access_lines(caplog)[0].getMessage().startswith(f"POST {TOLD} 200 ")
            served.app.state.service.drain()
            await served.client.get("/health/ready")
        assert access_lines(caplog)[1].getMessage().startswith("GET /health/ready 503 ")


# logs


@pytest.fixture
def root_logger() -> Any:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    levels = {
        name: logging.getLogger(name).level for name in ("uvicorn", "httpx", "httpcore", "PIL", "asyncio")
    }
    yield root
    root.handlers[:], root.level = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_json_logs_are_one_object_a_line(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", "json")
    token = request_id.set("mine")
    logging.getLogger("a.b").info("two\nlines of %s", "text", extra={"status": 200})
    request_id.reset(token)
    try:
        raise ValueError("the reason")
    except ValueError:
        logging.getLogger("a").exception("it failed")
    logging.getLogger("a").debug("not this")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert first == {
        "time": first["time"],
        "level": "info",
        "logger": "a.b",
        "request_id": "mine",
        "message": "two\nlines of text",
        "status": 200,
    }
    assert first["time"].endswith("+00:00")
    assert (second["level"], second["request_id"]) == ("error", "-")
    assert "the reason" in second["exception"]


def test_text_logs_name_the_request(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "text")
    token = request_id.set("mine")
    logging.getLogger("a").debug("done")
    logging.getLogger("httpx").info("chatter")
    request_id.reset(token)
    assert capsys.readouterr().err.splitlines()[0].endswith("DEBUG   mine a: done")


def test_a_record_made_elsewhere_can_be_formatted() -> None:
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "hello", None, None)
    assert json.loads(JsonLines().format(record))["request_id"] == "-"


# the last resort


def guarded(app: FastAPI) -> httpx.AsyncClient:
    app.add_middleware(RequestContext, metrics=Metrics())
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=True), base_url="http://test"
    )


async def test_an_uncaught_error_becomes_a_problem_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FastAPI()

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("SECRET")

    async with guarded(app) as client:
        response = await client.get("/broken", headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert response.headers["content-type"] == "application/problem+json"
    assert "SECRET" not in response.text
    assert "mine" in response.json()["detail"]
    assert [record for record in caplog.records if record.exc_info and "SECRET" in str(record.exc_info[1])]


async def test_an_answer_that_breaks_off_does_not_look_complete() -> None:
    async def pieces() -> Any:
        yield b"a"
        raise RuntimeError("SECRET")

    app = FastAPI()

    @app.get("/broken")
    async def broken() -> StreamingResponse:
        return StreamingResponse(pieces())

    async with guarded(app) as client:
        with pytest.raises(RuntimeError, match="SECRET"):
            await client.get("/broken")


async def test_what_is_not_http_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError("not to be called")

    metrics = Metrics()
    stack = RequestContext(BodyLimit(app, metrics, 1, BodyAccounts.of(Settings())), metrics)
    await stack({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]


async def test_ids_do_not_mix_between_requests(served: Served) -> None:
    names = [f"r{index}" for index in range(20)]
    calls = [
        served.client.post("/detect", content=picture(), headers=AS_PNG | {"X-Request-ID": name})
        for name in names
    ]
    answers = await asyncio.gather(*calls)
    assert [answer.json()["request_id"] for answer in answers] == names


async def test_a_refused_method_names_all_methods_of_the_path(served: Served) -> None:
    response = await served.client.patch("/")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")


# what every response has, and HEAD


async def test_every_response_forbids_sniffing(served: Served) -> None:
    requests = [
        ("GET", "/labels"),
        ("GET", "/"),
        ("POST", "/detect"),
        ("GET", "/nowhere"),
        ("PATCH", "/labels"),
    ]
    for method, path in requests:
        response = await served.client.request(method, path)
        assert response.headers.get_list("x-content-type-options") == ["nosniff"], path


HEADS = ("/", "/health", "/health/live", "/health/ready", "/metrics", "/models", "/labels", "/docs")


@pytest.mark.parametrize("path", [*HEADS, "/openapi.json", "/web/app.js", "/v2/health/ready", "/ping"])
async def test_head_answers_as_get_without_a_body(served: Served, path: str) -> None:
    get, head = await served.client.get(path), await served.client.head(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    for name in ("content-type", "cache-control", "content-security-policy"):
        assert head.headers.get(name) == get.headers.get(name)
    assert await served.metric("rcnn_requests_total", route="unmatched", status="405") == 0


async def test_head_is_refused_where_there_is_no_get(served: Served) -> None:
    head = await served.client.head("/detect")
    assert (head.status_code, head.headers["allow"]) == (405, "POST, PUT")
