"""Pages of other sites: preflights, answers and errors with RCNN_ALLOWED_ORIGINS, and nothing without."""

import httpx
import pytest

from tests.support.asgi_request import AsgiRequest
from tests.support.data.moving import Socket
from tests.support.fakes import FakeDetector, picture
from tests.support.served import Serve, Served, eventually

FRIEND, OTHER = "https://friend.example", "https://evil.example"
PNG = {"Content-Type": "image/png"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-priority",
}


def allowed(response: httpx.Response) -> str | None:
    origin: str | None = response.headers.get("access-control-allow-origin")
    return origin


async def preflight(served: Served, origin: str, path: str = "/detect") -> httpx.Response:
    return await served.client.options(path, headers={"Origin": origin, **PREFLIGHT})


async def test_without_the_setting_there_is_no_header_of_cors(served: Served) -> None:
    answers = [
        await preflight(served, FRIEND),
        await served.client.get("/health", headers={"Origin": FRIEND}),
    ]
    assert [answer.status_code for answer in answers] == [405, 200]
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("setting", ["https://other.example, HTTPS://Friend.example:443/", "*"])
async def test_a_page_may_send_images_and_read_answers(serve: Serve, setting: str) -> None:
    shown = "*" if setting == "*" else FRIEND
    async with serve(allowed_origins=setting, api_keys="key") as served:
        for path in ("/detect", "/detect/batch", "/v1/vision/detection", "/models/fake/load", "/nowhere"):
            answer = await preflight(served, FRIEND, path)
            assert (answer.status_code, allowed(answer)) == (200, shown)
            assert "POST" in answer.headers["access-control-allow-methods"]
            assert (
                answer.headers["access-control-allow-headers"] == PREFLIGHT["Access-Control-Request-Headers"]
            )
        headers = {"Origin": FRIEND, "Authorization": "Bearer key", **PNG}
        answer = await served.client.post("/detect", content=picture(), headers=headers)
        assert (answer.status_code, allowed(answer)) == (200, shown)
        exposed = {
            name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")
        }
        assert {"x-request-id", "server-timing", "retry-after", "x-model", "x-model-version"} <= exposed
        assert "access-control-allow-credentials" not in answer.headers


async def test_a_page_of_an_unnamed_site_may_not(serve: Serve) -> None:
    async with serve(allowed_origins=FRIEND) as served:
        refused, answer = (
            await preflight(served, OTHER),
            await served.client.get("/models", headers={"Origin": OTHER}),
        )
        assert (refused.status_code, allowed(refused)) == (400, None)
        assert (answer.status_code, allowed(answer)) == (200, None)
        assert "origin" in answer.headers["vary"].lower()  # no cache gives one site another's answer


async def test_errors_of_every_layer_can_be_read(serve: Serve) -> None:
    origin = {"Origin": FRIEND, **PNG}
    detector = FakeDetector(poison=lambda job: RuntimeError("broken"))
    settings = {"allowed_origins": FRIEND, "max_body_bytes": 2000, "api_keys": "key", "max_queue": 1}
    async with serve(detector, **settings) as served:
        key = {"Authorization": "Bearer key"}
        post = served.client.post
        answers = {
            401: await post("/detect", content=b"x", headers=origin),
            413: await post("/detect", content=bytes(2001), headers=origin | key),
            422: await post("/detect?nonsense=1", content=b"x", headers=origin | key),
            404: await post("/nowhere", headers=origin),
            405: await post("/health", headers=origin),
            500: await post("/detect", content=picture(8, 8), headers=origin | key),
        }
        assert {status: answer.status_code for status, answer in answers.items()} == {n: n for n in answers}
        detector.free.clear()
        before = len(detector.batches)
        waiting = AsgiRequest(served.app, "/detect", origin | key)
        waiting.send(picture(8, 8))
        await eventually(lambda: len(detector.batches) > before, "a request is on the device")
        answers[429] = await post("/detect?timeout_ms=1000", content=picture(8, 8), headers=origin | key)
        assert answers[429].status_code == 429
        assert {allowed(answer) for answer in answers.values()} == {FRIEND}
        detector.let_go()
        await waiting.answered()


async def test_the_web_socket_agrees(serve: Serve) -> None:
    async with serve(allowed_origins="*") as served:
        live = Socket(served.app, "/detect/live", origin=OTHER)
        await live.opened()
        live.leave()
        await live.ended()
