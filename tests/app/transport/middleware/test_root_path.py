"""Behind a proxy: paths with and without its prefix, and what trusted proxies alone may say."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app.http_server.forwarded import Forwarded
from tests.support.asgi_request import asgi_scope
from tests.support.data.moving import Socket
from tests.support.fakes import picture
from tests.support.served import Serve, Served

PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize("prefix", ["", "/a/rcnn"])
async def test_paths_are_answered_with_and_without_the_prefix(serve: Serve, prefix: str) -> None:
    async with serve(root_path="/a/rcnn", allowed_origins="*") as served:
        get, post = served.client.get, served.client.post
        for path in ("/", "/health", "/docs", "/openapi.json", "/web/app.js", "/v2/health/live"):
            assert (await get(prefix + path)).status_code == 200, path
        assert (await post(f"{prefix}/detect/", content=picture(), headers=PNG)).status_code == 200
        assert (await get(f"{prefix}/nowhere")).json()["code"] == "not_found"
        assert await served.metric("rcnn_requests_total", route="/detect", status="200") == 1
        live = Socket(served.app, f"{prefix}/detect/live")
        await live.opened()
        live.leave()
        await live.ended()


async def test_the_prefix_alone_leads_to_the_page_whose_links_are_relative(serve: Serve) -> None:
    async with serve(root_path="/a/rcnn") as served:
        answer = await served.client.get("/a/rcnn", follow_redirects=True)
        assert (answer.url.path, answer.status_code) == ("/a/rcnn/", 200)
        assert (await served.client.get("/a/rcnnx/health")).status_code == 404


@asynccontextmanager
async def proxied(served: Served, peer: str, trusted: list[str] | str) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose connection comes from this address."""
    transport = httpx.ASGITransport(Forwarded(served.app, trusted), client=(peer, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.9:8000") as client:
        yield client


@pytest.mark.parametrize(
    ("peer", "trusted", "believed"),
    [
        ("10.0.0.1", ["10.0.0.0/8"], True),
        ("10.0.0.1", "*", True),
        ("192.0.2.1", ["10.0.0.0/8"], False),
        ("10.0.0.1", "127.0.0.1", False),
    ],
)
async def test_only_trusted_proxies_change_the_path(
    served: Served, peer: str, trusted: list[str] | str, believed: bool
) -> None:
    async with proxied(served, peer, trusted) as client:
        response = await client.get("/rcnn/health", headers={"X-Forwarded-Prefix": "/rcnn/"})
        assert response.status_code == (200 if believed else 404)


ORIGIN = "https://a.example:8443"
SAID = {"x_forwarded_host": "evil.example, a.example", "x_forwarded_proto": "https"}


@pytest.mark.parametrize(
    ("headers", "trusted", "opens"),
    [
        ({"host": "one", "origin": "https://a.example", **SAID}, True, True),
        ({"host": "one", "origin": "https://a.example", **SAID}, False, False),
        ({"host": "one", "origin": "https://evil.example", **SAID}, True, False),
        (
            {"host": "a.example", "origin": ORIGIN, "x_forwarded_for": "192.0.2.7"},
            True,
            True,
        ),
        ({"host": "a.example", "origin": ORIGIN}, True, False),  # no proxy: another server
        ({"host": "a.example:80", "origin": ORIGIN, "x_forwarded_for": "::1"}, True, False),
    ],
)
async def test_the_origin_is_compared_with_the_host_that_the_client_has_asked(
    served: Served, headers: dict[str, str], trusted: bool, opens: bool
) -> None:
    app: Any = Forwarded(served.app, "127.0.0.1" if trusted else "10.0.0.1")
    live = Socket(app, **headers)
    if opens:
        await live.opened()
        live.leave()
        await live.ended()
    else:
        status, problem = await live.refused()
        assert (status, problem["code"]) == (403, "foreign_origin")


async def test_the_client_is_the_one_that_the_proxy_names() -> None:
    scopes = []

    async def app(scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        scopes.append(scope)

    said = [("x-forwarded-for", "192.0.2.7, 10.0.0.2"), ("x-forwarded-proto", "https")]
    for peer in ("10.0.0.1", "198.51.100.1"):
        scope = asgi_scope("/health", said, type="http", scheme="http", method="GET", client=(peer, 5))
        await Forwarded(app, ["10.0.0.0/8"])(scope, None, None)
    assert [(scope["client"][0], scope["scheme"]) for scope in scopes] == [
        ("192.0.2.7", "https"),
        ("198.51.100.1", "http"),
    ]
