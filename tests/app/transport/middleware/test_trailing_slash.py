"""A slash behind a path: the same as without it, where that is a route and the path with it is none."""

import pytest

from tests.support.data.moving import Socket
from tests.support.fakes import picture
from tests.support.served import Served

PNG = picture()


async def test_a_body_arrives_behind_a_slash(served: Served) -> None:
    response = await served.client.post(
        "/detect/?size=64", content=PNG, headers={"Content-Type": "image/png"}
    )
    assert len(response.json()["boxes"]) == 2
    assert await served.metric("rcnn_requests_total", route="/detect", status="200") == 1


ANSWERS = {
    "/health/": 200,
    "/labels/": 200,
    "/v2/models/fake/ready/": 200,
    "/web/app.js/": 200,
    "/detect/": 405,
    "/health//": 404,
    "//": 404,
    "/web/": 404,
    "/nothing/": 404,
}


@pytest.mark.parametrize(("path", "status"), ANSWERS.items())
async def test_a_path_with_a_slash_is_that_without(served: Served, path: str, status: int) -> None:
    assert (await served.client.get(f"http://test{path}")).status_code == status


async def test_the_documentation_is_sent_to_its_page(served: Served) -> None:
    response = await served.client.get("/docs/")
    assert (response.status_code, response.headers["location"]) == (308, "../docs")


async def test_a_web_socket_opens_behind_a_slash(served: Served) -> None:
    socket = Socket(served.app, "/detect/live/")
    await socket.opened()
    socket.leave()
    await socket.ended()
