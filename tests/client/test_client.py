"""The client against the real app and the real program; unexpected responses come from a transport."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from rcnn_client import AsyncClient, Client, Detections, NotAnAnswer, Refused, Unreachable
from tests.support.fakes import FakeDetector, picture
from tests.support.process import Program, closed_port
from tests.support.served import Serve, Served
from tests.support.servers.responses import ANSWER, Scripted, busy, detected
from tests.support.several import FIRST, SECOND, several


@asynccontextmanager
async def client_to(
    served: Served, api_key: str | None = None, retries: int = 3
) -> AsyncIterator[AsyncClient]:
    transport = httpx.ASGITransport(served.app)
    async with AsyncClient("http://test", api_key, retries=retries, transport=transport) as client:
        yield client


def check(result: Detections) -> None:
    """What a FakeDetector finds in picture() with the card's thresholds."""
    np.testing.assert_allclose(result.boxes, [[8, 12, 32, 36], [16, 12, 64, 24]])
    assert [array.dtype.name for array in (result.boxes, result.labels)] == ["float32", "int64"]
    assert result.labels.tolist() == [1, 2]
    assert result.scores.tolist() == [0.9375, 0.75]
    assert (result.names, result.width, result.height, result.model) == (("Square", "disc"), 64, 48, "fake")
    assert set(result.timings_ms) == {"decode", "queue", "inference", "postprocess", "total"}
    assert len(result) == 2
    assert len(result.request_id) == 32


def test_bytes_and_a_file_give_typed_detections(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(picture())
    with Client(f"http://127.0.0.1:{program.port}") as client:
        check(client.detect(picture()))
        check(client.detect(file))
        check(client.detect(str(file)))


async def test_the_async_client_gives_the_same(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(picture())
    async with client_to(served) as client:
        check(await client.detect(picture()))
        check(await client.detect(file))


async def test_a_call_chooses_its_model(serve: Serve) -> None:
    async with several(serve) as models, client_to(models.served) as client:
        for name, shown in ((None, FIRST), (SECOND, SECOND)):
            assert (await client.detect(picture(), model=name)).model == shown
            assert (await client.labels(name))[1] == models.detectors[shown].card.labels[1]
        with pytest.raises(Refused, match="no model 'yolo'"):
            await client.labels("yolo")


async def test_options_reach_the_service(served: Served) -> None:
    async with client_to(served) as client:
        few = await client.detect(picture(), classes=["square", 4], score_threshold=0.1)
        one = await client.detect(
            picture(), max_detections=1, nms_threshold=0.3, size=64, class_agnostic=True
        )
        none = await client.detect(picture(), score_threshold=1)
        default = await client.detect(picture(), score_threshold=None, classes=[])
    assert few.names == ("Square", "kite")
    assert one.names == ("Square",)
    assert none.boxes.shape == (0, 4)
    assert default.names == ("Square", "disc")


async def test_the_answer_as_plain_values_is_the_answer_sent(served: Served) -> None:
    query = {"score_threshold": "0.1"}
    sent = (await served.client.post("/detect", params=query, files={"image": picture(100, 70)})).json()
    async with client_to(served) as client:
        got = (await client.detect(picture(100, 70), score_threshold=0.1)).to_dict()
    assert set(got) == set(sent)
    same = set(sent) - {"timings_ms", "request_id"}
    assert {key: got[key] for key in same} == {key: sent[key] for key in same}


async def test_a_problem_is_an_exception_with_its_code(served: Served) -> None:
    async with client_to(served) as client:
        with pytest.raises(Refused, match="invalid_image") as not_an_image:
            await client.detect(b"no image")
        with pytest.raises(Refused, match="horse") as no_class:
            await client.detect(picture(), classes=["horse"])
    assert (not_an_image.value.status, not_an_image.value.code) == (400, "invalid_image")
    assert (no_class.value.status, no_class.value.code) == (422, "invalid_parameter")
    assert len(no_class.value.request_id) == 32
    assert no_class.value.retry_after is None


async def test_the_key_is_sent(serve: Serve) -> None:
    async with serve(api_keys=(SecretStr("one"), SecretStr("two"))) as served:
        async with client_to(served, "two") as client:
            check(await client.detect(picture()))
        async with client_to(served) as client:
            with pytest.raises(Refused) as refused:
                await client.detect(picture())
    assert refused.value.status == 401


class Signalling(httpx.ASGITransport):
    """Signals when the first answer has come."""

    answered: asyncio.Event

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        self.answered.set()
        return response


async def test_a_loading_service_is_waited_for(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        transport = Signalling(served.app)
        transport.answered = asyncio.Event()
        async with AsyncClient("http://test", transport=transport) as client:
            answer = asyncio.create_task(client.detect(picture()))
            await asyncio.wait_for(transport.answered.wait(), 20)
            assert not detector.prepared
            detector.warm.set()
            await served.ready()
            check(await answer)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>Hello</html>"),
        httpx.Response(200, json=["boxes"]),
        httpx.Response(200, json={"boxes": []}),
        httpx.Response(200, json=ANSWER | {"boxes": "many"}),
        httpx.Response(200, json=ANSWER | {"scores": [0.5, 0.25]}),
        httpx.Response(200, json=ANSWER | {"image": None}),
        httpx.Response(302, headers={"Location": "/login"}),
    ],
    ids=["HTML", "a list", "no labels", "text for boxes", "unequal lengths", "no size", "a redirect"],
)
def test_an_unexpected_response_is_not_an_answer(response: httpx.Response) -> None:
    with pytest.raises(NotAnAnswer, match="is it rcnn-serve"):
        Scripted(response).detect(b"picture")


def test_an_error_page_of_a_proxy_is_a_refusal() -> None:
    with pytest.raises(Refused, match="Bad Gateway") as refused:
        Scripted(httpx.Response(502, text="<html>Bad gateway</html>")).detect(b"picture")
    assert (refused.value.status, refused.value.code) == (502, "unknown")


async def test_no_server_is_unreachable() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    with (
        Client(url, retries=0) as client,
        pytest.raises(Unreachable, match=f"no answer from {url}/detect.*running"),
    ):
        client.detect(b"picture")
    async with AsyncClient(url, retries=0) as client:
        with pytest.raises(Unreachable, match="running"):
            await client.detect(b"picture")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "localhost:8000", "ftp://host", "http://", "http://h:port", ""]
)
def test_a_wrong_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"as in http://127\.0\.0\.1:8000"):
        Client(url)


def test_a_path_before_the_routes_is_kept() -> None:
    client = Scripted(detected(), url="http://host/detector")
    client.detect(b"picture")
    assert [request.url for request in client.sent] == [httpx.URL("http://host/detector/detect")]


def test_get_gives_json_or_an_error_at_once() -> None:
    loading = {"status": "loading", "model": None}
    assert Scripted(httpx.Response(503, json=loading)).get("health") == loading
    with pytest.raises(Refused, match="overloaded"):
        Scripted(busy("0")).get("models")
    with pytest.raises(Refused, match="502"):
        Scripted(httpx.Response(502, text="<html>")).get("models")
    with pytest.raises(NotAnAnswer, match="not in JSON"):
        Scripted(httpx.Response(200, text="<html>")).get("models")
    with pytest.raises(Unreachable, match="gone"):
        Scripted(httpx.ConnectError("gone")).get("models")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Scripted().detect(tmp_path / "none.png")
