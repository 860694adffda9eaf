"""The middleware of Ray's proxy, before an app that answers as Ray does."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from app.distributed.proxy import ProxyMiddleware
from app.settings.settings import Settings

RayApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def answers(status: int, content_type: str, body: bytes = b"body") -> RayApp:
    async def ray_app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", content_type.encode()), (b"x-request-id", b"a"), (b"x-request-id", b"b")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return ray_app


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """As Ray's proxy when the replica with the request has died."""


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    """As Ray's proxy while no replica has room; it ends when the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def through(ray_app: RayApp, url: str = "/detect", **request: Any) -> httpx.Response:
    origins = request.pop("allowed_origins", ())
    settings = Settings(
        timeout_ms=request.pop("timeout_ms", 30_000), max_body_bytes=1024, allowed_origins=origins
    )
    transport = httpx.ASGITransport(ProxyMiddleware(ray_app, settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post(url, **request)


@pytest.mark.parametrize(
    ("ray_app", "status", "code"),
    [
        (silent, 503, "failing"),
        (answers(429, "text/plain"), 429, "overloaded"),
        (answers(503, "text/plain"), 503, "failing"),
        (answers(500, "text/plain; charset=utf-8"), 503, "failing"),
        (answers(404, "text/plain"), 503, "loading"),
    ],
)
async def test_an_error_of_ray_becomes_a_problem_with_retry_after(
    ray_app: RayApp, status: int, code: str
) -> None:
    response = await through(ray_app, headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers.get_list("x-request-id") == ["mine"]
    assert response.json()["request_id"] == "mine"


async def test_a_page_of_an_allowed_site_reads_an_error_of_ray() -> None:
    friend = "https://friend.example"
    response = await through(silent, headers={"Origin": friend}, allowed_origins=(friend,))
    assert response.headers["access-control-allow-origin"] == friend


async def test_an_error_has_the_dialect_of_its_route() -> None:
    response = await through(silent, "/v1/models/shapes:predict")
    assert response.status_code == 503
    assert "error" in response.json()
    assert "code" not in response.json()


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
async def test_a_replicas_response_is_not_changed(status: int) -> None:
    response = await through(answers(status, "application/problem+json"), headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.text) == (status, "body")
    assert response.headers.get_list("x-request-id") == ["mine"]
    plain = await through(answers(200, "text/plain"))
    rays_own_route = await through(answers(503, "text/plain"), "/-/healthz")
    assert plain.text == rays_own_route.text == "body"


async def test_a_request_without_a_replica_fails_at_its_deadline() -> None:
    before = time.monotonic()
    response = await through(never, "/detect?timeout_ms=1")
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    assert time.monotonic() - before < 20  # not the server's 30 s


async def test_an_endless_body_is_not_read_to_the_end() -> None:
    read = 0

    async def pieces() -> Any:
        nonlocal read
        for _ in range(100):
            read += 1
            yield bytes(512)

    response = await through(never, content=pieces())
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert read <= 4


async def test_id_and_time_are_added_and_rays_own_headers_removed() -> None:
    seen: dict[str, str] = {}

    async def ray_app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update({name.decode(): value.decode() for name, value in scope["headers"]})
        await answers(200, "application/json")(scope, receive, send)

    sent = {"X-Request-ID": "no good id", "X-Request-Timeout-Seconds": "9", "X-Request-Start": "t=0"}
    response = await through(ray_app, headers=sent)
    assert seen["x-request-id"] == response.headers["x-request-id"] != "no good id"
    assert "x-request-timeout-seconds" not in seen
    assert abs(float(seen["x-request-start"].removeprefix("t=")) - time.time()) < 10


async def test_a_client_that_left_gets_nothing() -> None:
    sent: list[Message] = []

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/detect", "method": "POST", "headers": [], "query_string": b""}
    await ProxyMiddleware(never, Settings())(scope, gone, send)
    assert sent == []
