"""WS /detect/live: the newest frame wins, one waits at most, every frame is a request of its own."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.data.moving import Socket
from tests.support.fakes import picture
from tests.support.served import Serve, Served, eventually

SIZES = [(64 + 2 * step, 48) for step in range(12)]  # of frames, to tell them apart on the device
FRAMES = [picture(*size) for size in SIZES]
PNG = {"Content-Type": "image/png"}


@asynccontextmanager
async def opened(served: Served, query: str = "") -> AsyncIterator[Socket]:
    """A socket that is accepted; at the end the client leaves."""
    live = Socket(served.app, f"/detect/live{query}")
    await live.opened()
    yield live
    live.leave()
    await live.ended()


async def hold(served: Served) -> asyncio.Task[Any]:
    """Keep the device busy with another request; `detector.free` lets it go on."""
    served.detector.free.clear()
    first = asyncio.create_task(served.client.post("/detect", content=FRAMES[1], headers=PNG))
    await eventually(lambda: len(served.detector.batches) == 1, "another request is on the device")
    return first


async def answered_as_detect(served: Served, answer: dict[str, Any], query: str = "") -> None:
    expected = (await served.client.post(f"/detect{query}", content=FRAMES[0], headers=PNG)).json()
    for one in (answer, expected):
        for changing in ("timings_ms", "request_id", "frame", "dropped"):
            one.pop(changing, None)
    assert answer == expected


async def test_a_frame_is_answered_as_detect_answers_it(served: Served) -> None:
    live = Socket(served.app, "/detect/live?score_threshold=0.9&normalized=true")
    accepted = await live.opened()
    assert dict(accepted["headers"])[b"x-request-id"]
    live.frame(FRAMES[0])
    answer = await live.answer()
    assert (answer["frame"], answer["dropped"]) == (0, 0)
    await answered_as_detect(served, answer, "?score_threshold=0.9&normalized=true")
    live.leave()
    await live.ended()
    assert await served.metric("rcnn_requests_total", route="/detect/live", status="101") == 1
    assert await served.metric("rcnn_stream_frames_total", route="/detect/live", outcome="answered") == 1
    assert await served.metric("rcnn_request_duration_seconds_count", route="/detect/live") == 0


async def test_the_newest_frame_wins_and_one_waits_at_most(served: Served) -> None:
    detector = served.detector
    async with opened(served) as live:
        detector.free.clear()
        live.frame(FRAMES[0])
        await eventually(lambda: len(detector.batches) == 1, "the first frame is on the device")
        for data in FRAMES[1:]:
            live.frame(data)
        await eventually(live.inbox.empty, "the server has received every frame")
        assert await served.metric("rcnn_queue_depth") == 0, "the frame that waits is not in the queue"
        assert await served.metric("rcnn_in_flight") == 1
        assert len(detector.prepared) == 1, "nor is it decoded"
        assert await served.metric("rcnn_stream_frames_total", route="/detect/live", outcome="dropped") == 10
        detector.free.set()
        first, newest = await live.answer(), await live.answer()
        assert (first["frame"], first["dropped"]) == (0, 10)
        assert (newest["frame"], newest["dropped"]) == (11, 10)
        assert detector.reached == [SIZES[0], SIZES[11]]
    assert live.outbox.empty()


async def test_latency_does_not_grow(served: Served) -> None:
    """Three frames come while the device has one: each answer is of the newest frame sent before its turn."""
    detector, numbers = served.detector, itertools.count()
    async with opened(served) as live:
        for turn in range(8):
            detector.free.clear()
            first = next(numbers)
            live.frame(FRAMES[first % 12])
            await eventually(lambda turn=turn: len(detector.batches) == 2 * turn + 1, "it is on the device")
            last = [next(numbers) for _ in range(3)][-1]
            for _ in range(3):
                live.frame(FRAMES[last % 12])
            await eventually(live.inbox.empty, "the server has received every frame")
            detector.free.set()
            during, newest = await live.answer(), await live.answer()
            assert (during["frame"], newest["frame"]) == (first, last)
        assert newest["dropped"] == 16


async def test_options_change_while_the_socket_is_open(served: Served) -> None:
    async with opened(served, "?score_threshold=0.2&classes=disc") as live:
        live.frame(FRAMES[0])
        assert (await live.answer())["names"] == ["disc"]
        live.text('{"classes": ["Square", "kite"], "box_format": "xywh"}')
        options = (await live.answer())["options"]
        assert (options["classes"], options["box_format"]) == (["Square", "kite"], "xywh")
        assert options["score_threshold"] == 0.2
        live.frame(FRAMES[0])
        answer = await live.answer()
        assert (answer["names"], answer["box_format"]) == (["Square", "kite"], "xywh")
        live.text('{"score_threshold": null, "classes": null}')
        assert (await live.answer())["options"]["score_threshold"] is None
        live.frame(FRAMES[0])
        assert (await live.answer())["names"] == ["Square", "disc"]


WRONG_CHANGES = {
    '{"score_threshold": 2}': "score_threshold='2'",
    '{"colour": 1}': "unknown parameter 'colour'",
    '{"classes": ["unicorn"]}': "'unicorn' is no class of fake",
    "[1]": "no JSON object",
    "{": "no JSON",
    "[" * 10_000: "no JSON",
    " " * 20_000: "longer than 16384 characters",
}


async def test_a_wrong_change_is_refused_and_changes_nothing(served: Served) -> None:
    async with opened(served) as live:
        for text, detail in WRONG_CHANGES.items():
            live.text(text)
            error = (await live.answer())["error"]
            assert (error["code"], error["status"]) == ("invalid_parameter", 422)
            assert detail in error["detail"]
            live.frame(FRAMES[0])
            assert (await live.answer())["names"] == ["Square", "disc"]


async def test_a_bad_frame_is_answered_and_the_stream_goes_on(serve: Serve) -> None:
    async with serve(max_body_bytes=20_000, max_pixels=10_000) as served, opened(served) as live:
        bad = [(b"no picture", "invalid_image"), (bytes(20_001), "body_too_large")]
        bad.append((picture(101, 100), "image_too_large"))
        for index, (data, code) in enumerate(bad):
            live.frame(data)
            answer = await live.answer()
            assert (answer["frame"], answer["error"]["code"]) == (index, code)
        served.detector.poison = lambda _: RuntimeError("a secret")
        live.frame(FRAMES[0])
        error = (await live.answer())["error"]
        assert error["code"] == "internal"
        assert "secret" not in error["detail"]
        served.detector.poison = lambda _: None
        live.frame(FRAMES[0])
        assert (await live.answer())["frame"] == 4
        assert await served.metric("rcnn_stream_frames_total", route="/detect/live", outcome="failed") == 4


async def test_each_frame_has_its_deadline(served: Served) -> None:
    async with opened(served, "?timeout_ms=50") as live:
        served.detector.free.clear()
        live.frame(FRAMES[0])
        assert (await live.answer())["error"]["code"] == "deadline_exceeded"
        served.detector.free.set()
        live.text('{"timeout_ms": 20000}')
        await live.answer()
        live.frame(FRAMES[1])
        assert (await live.answer())["frame"] == 1


async def test_a_frame_of_a_client_that_left_never_reaches_the_device(served: Served) -> None:
    async with opened(served) as live:
        first = await hold(served)
        live.frame(FRAMES[0])
        await eventually(lambda: served.app.state.service.queue_depth == 1, "the frame waits for the device")
    assert served.app.state.service.queue_depth == 0
    served.detector.free.set()
    assert (await first).status_code == 200
    assert served.detector.reached == [SIZES[1]]
    assert await served.metric("rcnn_cancelled_total") == 1
    assert await served.metric("rcnn_streams", route="/detect/live") == 0


async def test_a_client_that_takes_no_answers_is_closed(serve: Serve) -> None:
    async with serve(timeout_ms=1000) as served:  # also the time of the frame itself
        live = Socket(served.app, "/detect/live")
        await live.opened()
        live.may_send.clear()
        live.frame(FRAMES[0])
        await eventually(lambda: bool(served.detector.batches), "the frame is detected")
        assert await live.closed() == (1011, "answers are not taken")


async def test_a_frame_is_refused_while_the_queue_is_full(serve: Serve) -> None:
    async with serve(max_queue=1) as served, opened(served) as live:
        first = await hold(served)
        live.frame(FRAMES[0])
        error = (await live.answer())["error"]
        assert (error["code"], error["status"]) == ("overloaded", 429)
        served.detector.free.set()
        await first
        live.frame(FRAMES[0])
        assert (await live.answer())["frame"] == 1


async def test_drain_closes_with_1012(served: Served) -> None:
    live = Socket(served.app, "/detect/live")
    await live.opened()
    served.detector.free.clear()
    live.frame(FRAMES[0])
    await eventually(lambda: len(served.detector.batches) == 1, "the frame is on the device")
    served.app.state.service.drain()
    live.frame(FRAMES[1])
    await eventually(live.inbox.empty, "the next frame is received")
    served.detector.free.set()
    assert (await live.answer())["frame"] == 0, "what was accepted is answered"
    assert (await live.answer())["error"]["code"] == "draining"
    assert await live.closed() == (1012, "draining")
    status, refusal = await Socket(served.app, "/detect/live").refused()
    assert (status, refusal["code"]) == (503, "draining")
