"""The Python client, against the real app and the real program; strangers' answers come from a transport."""

import asyncio
import io
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import supervision
from PIL import Image as pillow
from pydantic import SecretStr

from rcnn_client import AsyncClient, Client, NotAnAnswer, Refused, Result, Unreachable
from tests.support.fakes import FakeDetector, picture
from tests.support.process import Program
from tests.support.served import ROOT, Serve, Served

Answer = Callable[[httpx.Request], httpx.Response]
ANSWER = {
    "boxes": [[1.5, 2, 30, 40]],
    "labels": [2],
    "scores": [0.75],
    "names": ["disc"],
    "image": {"width": 64, "height": 48},
    "model": "fake",
    "box_format": "xyxy",
    "timings_ms": {"total": 3.5},
    "request_id": "abc",
    "a_key_of_a_later_version": 1,
}


def busy(retry_after: str | None, status: int = 429) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(status, headers=headers, json={"code": "overloaded", "detail": "64 requests wait"})


def client_of(*answers: httpx.Response, retries: int = 3) -> tuple[Client, list[httpx.Request]]:
    """A client that gets these answers one after the other, and what it sent."""
    left, sent = list(answers), []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return left.pop(0)

    return Client("http://test", retries=retries, transport=httpx.MockTransport(answer)), sent


@asynccontextmanager
async def client_to(
    served: Served, api_key: str | None = None, retries: int = 3
) -> AsyncIterator[AsyncClient]:
    transport = httpx.ASGITransport(served.app)
    async with AsyncClient("http://test", api_key, retries=retries, transport=transport) as client:
        yield client


def check(result: Result) -> None:
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


class Telling(httpx.ASGITransport):
    """Tells when the first answer has come."""

    answered: asyncio.Event

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        self.answered.set()
        return response


async def test_a_loading_service_is_waited_for(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        transport = Telling(served.app)
        transport.answered = asyncio.Event()
        async with AsyncClient("http://test", transport=transport) as client:
            answer = asyncio.create_task(client.detect(picture()))
            await asyncio.wait_for(transport.answered.wait(), 20)
            assert not detector.prepared
            detector.warm.set()
            await served.ready()
            check(await answer)


def test_retry_after_is_honoured() -> None:
    client, sent = client_of(busy("0"), busy("1", 503), httpx.Response(200, json=ANSWER))
    started = time.monotonic()
    result = client.detect(b"picture", score_threshold=0.25)
    assert time.monotonic() - started >= 1
    assert result.names == ("disc",)
    assert [request.url for request in sent] == [httpx.URL("http://test/detect?score_threshold=0.25")] * 3
    assert [request.read() for request in sent] == [b"picture"] * 3


def test_retries_end() -> None:
    client, sent = client_of(busy("0"), busy("0"), busy("7"), retries=2)
    with pytest.raises(Refused, match=r"64 requests wait \(429 overloaded\)") as refused:
        client.detect(b"picture")
    assert refused.value.retry_after == 7
    assert len(sent) == 3


@pytest.mark.parametrize("status", [400, 413, 422, 500, 504])
def test_other_problems_are_not_tried_again(status: int) -> None:
    client, sent = client_of(httpx.Response(status, json={"detail": "no"}))
    with pytest.raises(Refused) as refused:
        client.detect(b"picture")
    assert (refused.value.status, refused.value.code, len(sent)) == (status, "unknown", 1)


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
def test_an_answer_of_something_else_is_told(response: httpx.Response) -> None:
    client, _ = client_of(response)
    with pytest.raises(NotAnAnswer, match="is it rcnn-serve"):
        client.detect(b"picture")


def test_an_error_page_of_a_proxy_is_a_refusal() -> None:
    client, _ = client_of(httpx.Response(502, text="<html>Bad gateway</html>"))
    with pytest.raises(Refused, match="Bad Gateway") as refused:
        client.detect(b"picture")
    assert (refused.value.status, refused.value.code) == (502, "unknown")


async def test_nobody_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with (
        Client(url, retries=1) as client,
        pytest.raises(Unreachable, match=f"no answer from {url}/detect.*running"),
    ):
        client.detect(b"picture")
    async with AsyncClient(url, retries=1) as client:
        with pytest.raises(Unreachable, match="running"):
            await client.detect(b"picture")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "localhost:8000", "ftp://host", "http://", "http://h:port", ""]
)
def test_a_wrong_url_is_told_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"as in http://127\.0\.0\.1:8000"):
        Client(url)


def test_a_path_before_the_routes_is_kept() -> None:
    sent: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url)
        return httpx.Response(200, json=ANSWER)

    Client("http://host/detector", transport=httpx.MockTransport(answer)).detect(b"picture")
    assert sent == [httpx.URL("http://host/detector/detect")]


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    client, _ = client_of()
    with pytest.raises(FileNotFoundError):
        client.detect(tmp_path / "none.png")


# -- what a result can do ------------------------------------------------------------------------------------


def found_in(image: bytes, program: Program) -> Result:
    with Client(f"http://127.0.0.1:{program.port}") as client:
        return client.detect(image)


def test_a_result_draws_itself_on_a_file_bytes_or_pixels(program: Program, tmp_path: Path) -> None:
    data = picture(330, 240, "JPEG")
    (tmp_path / "picture.jpg").write_bytes(data)
    with pillow.open(io.BytesIO(data)) as opened:
        pixels = np.asarray(opened)
    result = found_in(data, program)
    drawings = [np.asarray(result.draw(image)) for image in (data, tmp_path / "picture.jpg", pixels)]
    changed = (drawings[0] != pixels).any(axis=2)
    assert drawings[0].shape == (240, 330, 3)
    assert changed[60:180, 42:43].mean() > 0.9  # the left edge of the square at 41, 60, 165, 180
    assert not changed[190:].any()
    for other in drawings[1:]:
        np.testing.assert_array_equal(drawings[0], other)
    with pytest.raises(ValueError, match="64x48, the detections are of one of 330x240"):
        result.draw(picture())


def test_supervision_gets_the_same_detections(program: Program) -> None:
    result = found_in(picture(), program)
    theirs = result.to_supervision()
    assert isinstance(theirs, supervision.Detections)
    np.testing.assert_array_equal(theirs.xyxy, result.boxes)
    np.testing.assert_array_equal(theirs.class_id, result.labels)
    np.testing.assert_array_equal(theirs.confidence, result.scores)
    assert theirs.data["class_name"].tolist() == ["Square", "disc"]
    theirs.xyxy[0] = 0  # theirs to write to
    with Client(f"http://127.0.0.1:{program.port}") as client:
        nothing = client.detect(picture(), score_threshold=1).to_supervision()
    assert len(nothing) == 0
    assert len(theirs[theirs.confidence > 0.8]) == 1


def test_the_client_needs_httpx_and_numpy_alone() -> None:
    unwanted = ("torch", "PIL", "rich", "supervision", "fastapi", "pydantic_settings", "typer", "av")
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({unwanted}))\n"
        "from rcnn_client import AsyncClient, Client\n"
        "Client('http://127.0.0.1:1').close()\n"
        f"print([name for name in {unwanted} if sys.modules.get(name)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
