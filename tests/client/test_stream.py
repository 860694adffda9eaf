"""The client's streams: a frame at a time from the real program; broken answers come from a transport."""

import json
import os
import signal
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from rcnn_client import AsyncClient, Client, Detections, Frame, NotAnAnswer, Refused, Unreachable
from tests.support.data.moving import animation
from tests.support.fakes import picture
from tests.support.process import Program
from tests.support.servers.responses import ANSWER

LINE = json.dumps({"frame": 0, "seconds": None, **ANSWER})


def url(program: Program) -> str:
    return f"http://127.0.0.1:{program.port}"


def answering(*chunks: str | Exception) -> Client:
    """A client of a service that answers with these pieces, or is lost where one is an error."""

    class Body(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            for chunk in chunks:
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk.encode()

    return Client("http://test", transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=Body())))


def check(frames: list[Frame]) -> None:
    """Each second of the five frames of animation(), as a FakeDetector answers."""
    assert [frame.index for frame in frames] == [0, 2, 4]
    assert [frame.seconds for frame in frames] == pytest.approx([0.0, 0.2, 0.4])
    for frame in frames:
        assert isinstance(frame.outcome, Detections)
        assert (frame.outcome.names, frame.outcome.width) == (("Square", "disc"), 64)


def test_frames_come_with_their_number_time_and_detections(program: Program, tmp_path: Path) -> None:
    clip = tmp_path / "clip.gif"
    clip.write_bytes(animation())
    with Client(url(program)) as client:
        check(list(client.stream(clip, every=2)))
        [first] = client.stream(animation(), max_frames=1, score_threshold=0.9)
        assert isinstance(first.outcome, Detections)
        assert first.outcome.names == ("Square",)
        [page] = client.stream(picture())
        assert (page.index, page.seconds) == (0, None)


async def test_the_same_on_asyncio(program: Program) -> None:
    async with AsyncClient(url(program)) as client:
        check([frame async for frame in client.stream(animation(), every=2)])
        with pytest.raises(Refused, match="invalid_image"):
            await anext(client.stream(b"no clip"))


def test_what_is_refused_is_raised(program: Program) -> None:
    with Client(url(program)) as client:
        with pytest.raises(Refused) as refused:
            next(client.stream(b"no clip"))
        assert (refused.value.status, refused.value.code) == (400, "invalid_image")
        with pytest.raises(Refused, match="every"):
            next(client.stream(animation(), every=0))


def test_a_frame_that_fails_has_its_problem(program: Program) -> None:
    data = animation()
    with Client(url(program)) as client:
        *whole, last = client.stream(data[: len(data) * 3 // 4])
    assert all(isinstance(frame.outcome, Detections) for frame in whole)
    assert whole
    assert isinstance(last.outcome, Refused)
    assert (last.outcome.status, last.outcome.code) == (400, "invalid_image")


async def test_who_leaves_early_ends_the_stream(start: Callable[..., Program]) -> None:
    """One stream may be open, so that the next is let in once the one before has ended."""
    program = start("--seconds", "0.05", max_streams="1")
    program.logged("ready")
    with Client(url(program)) as client:
        for _ in range(3):
            frames = client.stream(animation())
            assert next(frames).index == 0
            frames.close()
    async with AsyncClient(url(program)) as client_:
        for _ in range(3):
            async with aclosing(client_.stream(animation())) as frames_:
                assert (await anext(frames_)).index == 0


def test_a_service_that_loads_is_asked_again(start: Callable[..., Program]) -> None:
    program = start("--loading")
    with Client(url(program), retries=50) as client:
        frames = client.stream(animation())
        program.logged("listening")
        os.kill(program.process.pid, signal.SIGUSR1)
        assert len(list(frames)) == 5


@pytest.mark.parametrize(
    ("chunks", "error", "told"),
    [
        ((LINE + "\n",), Unreachable, "broke off; the frames before were complete"),
        ((LINE + "\n", httpx.ReadError("gone")), Unreachable, "broke off: gone"),
        ((LINE + "\n", "[]\n"), NotAnAnswer, "not with a line a frame"),
        ((LINE + "\n", '{"frame": 1}\n'), NotAnAnswer, "not with a line a frame"),
    ],
)
def test_an_answer_without_its_end_is_told(chunks: Any, error: type[Exception], told: str) -> None:
    frames = answering(*chunks).stream(b"clip")
    assert next(frames).index == 0
    with pytest.raises(error, match=told):
        next(frames)
