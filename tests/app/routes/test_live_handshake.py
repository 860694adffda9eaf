"""The handshake of /detect/live: keys, origins, options, the bound on open streams."""

import base64
import json

import pytest

from tests.support.data.moving import Socket
from tests.support.fakes import FakeDetector
from tests.support.served import Serve, Served


def socket(served: Served, url: str = "/detect/live", **headers: str) -> Socket:
    return Socket(served.app, url, **headers)


def encoded(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer s3cret/key"},
        {"x_api_key": "s3cret/key"},
        {"protocols": f"rcnn-live,rcnn-key.{encoded('s3cret/key')}"},
    ],
)
async def test_a_key_opens_it(serve: Serve, headers: dict[str, str]) -> None:
    async with serve(api_keys="other,s3cret/key") as served:
        live = socket(served, **headers)
        accepted = await live.opened()
        assert accepted["subprotocol"] == ("rcnn-live" if "protocols" in headers else None)
        live.leave()
        await live.ended()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"x_api_key": ""},
        {"protocols": "rcnn-live,rcnn-key.!!!!"},
        {"protocols": "rcnn-live,rcnn-key.a"},
        {"protocols": f"rcnn-key.{encoded('wrong')}"},
    ],
)
async def test_without_a_key_it_stays_shut(serve: Serve, headers: dict[str, str]) -> None:
    async with serve(api_keys="s3cret/key") as served:
        status, refusal = await socket(served, **headers).refused()
        assert (status, refusal["code"]) == (401, "unauthorized")
        assert refusal["request_id"] != "-"
        assert await served.metric("rcnn_requests_total", route="/detect/live", status="401") == 1


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://test:81", "http://test.evil"])
async def test_pages_of_other_sites_are_refused(served: Served, origin: str) -> None:
    status, refusal = await socket(served, origin=origin).refused()
    assert (status, refusal["code"]) == (403, "foreign_origin")


@pytest.mark.parametrize("origin", ["http://test", "https://TEST", "https://friend.example"])
async def test_pages_of_this_site_and_of_those_named_are_let_in(serve: Serve, origin: str) -> None:
    async with serve(allowed_origins="https://friend.example/, https://other.example") as served:
        live = socket(served, origin=origin)
        await live.opened()
        live.leave()
        await live.ended()


async def test_wrong_options_refuse_the_handshake(served: Served) -> None:
    for query in ("score_threshold=2", "nonsense=1", "classes=unicorn", "timeout_ms=999999999"):
        status, refusal = await socket(served, f"/detect/live?{query}").refused()
        assert (status, refusal["code"]) == (422, "invalid_parameter")


async def test_the_open_streams_are_bounded(serve: Serve) -> None:
    async with serve(max_streams=1) as served:
        live = socket(served)
        await live.opened()
        assert await served.metric("rcnn_streams", route="/detect/live") == 1
        status, refusal = await socket(served).refused()
        assert (status, refusal["code"]) == (429, "overloaded")
        live.leave()
        await live.ended()
        again = socket(served)
        await again.opened()
        again.leave()
        await again.ended()


async def test_a_model_that_loads_refuses_the_handshake(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        status, refusal = await socket(served).refused()
        assert (status, refusal["code"]) == (503, "loading")


async def test_an_unknown_path_is_no_socket(served: Served) -> None:
    live = socket(served, "/detect/nothing")
    assert (await live.message())["type"] == "websocket.close"
    await live.ended()
    assert json.loads((await served.client.get("/health")).text)["status"] == "ok"
