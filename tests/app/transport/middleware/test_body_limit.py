"""The bounds on request bodies: of one request, of all users, and of strangers on a server with keys."""

import pytest

from tests.support.asgi_request import AsgiRequest
from tests.support.fakes import picture
from tests.support.served import Serve, eventually

AS_PNG = {"Content-Type": "image/png"}


async def test_a_body_may_be_as_large_as_the_bound_and_no_larger(serve: Serve) -> None:
    image = picture()
    padded = image + b"\0" * (5000 - len(image))
    async with serve(max_body_bytes=5000) as served:
        assert (await served.client.post("/detect", content=padded, headers=AS_PNG)).status_code == 200
        answer = await served.client.post("/detect", content=padded + b"\0", headers=AS_PNG)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert await served.metric("rcnn_rejected_total", code="body_too_large") == 1
        # a declared length above it is refused before a byte is read; one below is not believed
        for declared in ("5001", "10", "0", "-1", "many", ""):
            request = AsgiRequest(served.app, "/detect", AS_PNG | {"Content-Length": declared})
            for _ in range(0 if declared == "5001" else 6):
                request.send(b"\0" * 1000, more=True)
            await request.answered()
            assert (request.status, request.problem["code"]) == (413, "body_too_large"), declared


async def test_all_bodies_together_are_bounded(serve: Serve) -> None:
    """Bodies that arrive slowly hold no permit yet; their bytes count all the same."""
    async with serve(max_body_bytes=1 << 20, max_queue_bytes=1 << 20) as served:
        first = AsgiRequest(served.app, "/detect", AS_PNG)
        first.send(b"\0" * 900_000, more=True)
        await eventually(lambda: first.read_all, "the first body is there but for its end")
        second = AsgiRequest(served.app, "/detect", AS_PNG)
        second.send(b"\0" * 200_000)
        await second.answered()
        assert (second.status, second.problem["code"]) == (429, "overloaded")
        assert int(second.headers["retry-after"]) >= 1
        first.leave()
        await first.ended()
        third = await served.client.post("/detect", content=picture(), headers=AS_PNG)
        assert third.status_code == 200


@pytest.mark.parametrize("url", ["/v1/vision/detection", "/v1/vision/custom/list", "/infer/object_detection"])
async def test_bodies_of_strangers_hold_nothing_of_the_users(serve: Serve, url: str) -> None:
    """Where a key may come in the body, the body counts in an account of its own until then."""
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    begun = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + b" " * 60_000
    async with serve(max_body_bytes=100_000, max_queue_bytes=1 << 20, api_keys="secret") as served:
        first = AsgiRequest(served.app, url, form)
        first.send(begun, more=True)
        await eventually(lambda: first.read_all, "the first body is there but for its end")
        assert await served.metric("rcnn_body_bytes", sender="stranger") == len(begun)
        second = AsgiRequest(served.app, url, form)
        second.send(begun, more=True)
        await second.answered()
        assert (second.status, int(second.headers["retry-after"]) >= 1) == (429, True)
        key = {"X-API-Key": "secret"}
        user = AsgiRequest(served.app, "/v1/vision/detection", form | key)
        user.send(begun, more=True)
        await eventually(lambda: user.read_all, "the user's body is there but for its end")
        answer = await served.client.post("/detect", content=picture(), headers=AS_PNG | key)
        assert answer.status_code == 200
        assert await served.metric("rcnn_body_bytes", sender="user") == len(begun)
        for request in (first, user):
            request.leave()
            await request.ended()
        assert await served.metric("rcnn_body_bytes", sender="stranger") == 0
        assert await served.metric("rcnn_body_bytes", sender="user") == 0
