"""WS /detect/live: the newest frame wins, one waits at most, every frame is a request of its own."""

import asyncio
from typing import Any

import pytest

from app.serving.streams import LatestFrame
from tests.support.fakes import FakeDetector, picture
from tests.support.moving import Socket
from tests.support.served import Serve, Served, eventually

SIZES = [(64 + 2 * step, 48) for step in range(12)]  # of frames, to tell them apart on the device
FRAMES = [picture(*size) for size in SIZES]


def socket(served: Served, url: str = "/detect/live", **headers: str) -> Socket:
    return Socket(served.app, url, **headers)


async def answered_as_detect(served: Served, answer: dict[str, Any], query: str = "") -> None:
    expected = (await served.client.post(f"/detect{query}", content=FRAMES[0], headers=PNG)).json()
    for one in (answer, expected):
        for changing in ("timings_ms", "request_id", "frame", "dropped"):
            one.pop(changing, None)
    assert answer == expected


PNG = {"Content-Type": "image/png"}


async def test_a_frame_is_answered_as_detect_answers_it(served: Served) -> None:
    live = socket(served, "/detect/live?score_threshold=0.9&normalized=true")
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


async def test_the_newest_frame_wins_and_one_waits_at_most(serve: Serve) -> None:
    detector = FakeDetector()
    async with serve(detector) as served:
        live = socket(served)
        await live.opened()
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
        live.leave()
        await live.ended()
        assert live.outbox.empty()


async def test_latency_does_not_grow(serve: Serve) -> None:
    """Three frames come while the device has one: each answer is of the newest frame sent before its turn."""
    detector = FakeDetector()
    async with serve(detector) as served:
        live = socket(served)
        await live.opened()
        live.frame(FRAMES[0])
        await live.answer()
        sent = 1
        for turn in range(8):
            detector.free.clear()
            live.frame(FRAMES[sent % 12])
            sent += 1
            await eventually(
                lambda turn=turn: len(detector.batches) == 2 * turn + 2, "a frame is on the device"
            )
            for _ in range(3):
                live.frame(FRAMES[sent % 12])
                sent += 1
            await eventually(live.inbox.empty, "the server has received every frame")
            detector.free.set()
            during, newest = await live.answer(), await live.answer()
            assert (during["frame"], newest["frame"]) == (sent - 4, sent - 1)
        assert newest["dropped"] == 16
        live.leave()
        await live.ended()


async def test_one_place_holds_the_newest() -> None:
    newest: LatestFrame[str] = LatestFrame()
    assert [newest.put(one) for one in ("a", "b", "c")] == [False, True, True]
    await newest.wait()
    assert (newest.take(), newest.dropped) == ("c", 2)
    with pytest.raises(LookupError):
        newest.take()
    assert newest.put("d") is False


async def test_options_change_on_the_way(served: Served) -> None:
    live = socket(served, "/detect/live?score_threshold=0.2&classes=disc")
    await live.opened()
    live.frame(FRAMES[0])
    assert (await live.answer())["names"] == ["disc"]
    live.text('{"classes": ["Square", "kite"], "box_format": "xywh"}')
    told = (await live.answer())["options"]
    assert (told["classes"], told["box_format"], told["score_threshold"]) == (["Square", "kite"], "xywh", 0.2)
    live.frame(FRAMES[0])
    answer = await live.answer()
    assert (answer["names"], answer["box_format"]) == (["Square", "kite"], "xywh")
    live.text('{"score_threshold": null, "classes": null}')
    assert (await live.answer())["options"]["score_threshold"] is None
    live.frame(FRAMES[0])
    assert (await live.answer())["names"] == ["Square", "disc"]
    live.leave()
    await live.ended()


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ('{"score_threshold": 2}', "score_threshold='2'"),
        ('{"colour": 1}', "unknown parameter 'colour'"),
        ('{"classes": ["unicorn"]}', "'unicorn' is no class of fake"),
        ("[1]", "no JSON object"),
        ("{", "no JSON"),
        ("[" * 10_000, "no JSON"),
        (" " * 20_000, "longer than 16384 characters"),
    ],
)
async def test_a_wrong_change_is_told_and_changes_nothing(served: Served, text: str, detail: str) -> None:
    live = socket(served)
    await live.opened()
    live.text(text)
    error = (await live.answer())["error"]
    assert (error["code"], error["status"]) == ("invalid_parameter", 422)
    assert detail in error["detail"]
    live.frame(FRAMES[0])
    assert (await live.answer())["names"] == ["Square", "disc"]
    live.leave()
    await live.ended()


async def test_a_bad_frame_is_answered_and_the_stream_goes_on(serve: Serve) -> None:
    detector = FakeDetector()
    async with serve(detector, max_body_bytes=20_000, max_pixels=10_000) as served:
        live = socket(served)
        await live.opened()
        bad = [(b"no picture", "invalid_image"), (bytes(20_001), "body_too_large")]
        bad.append((picture(101, 100), "image_too_large"))
        for index, (data, code) in enumerate(bad):
            live.frame(data)
            answer = await live.answer()
            assert (answer["frame"], answer["error"]["code"]) == (index, code)
        detector.poison = lambda _: RuntimeError("a secret")
        live.frame(FRAMES[0])
        error = (await live.answer())["error"]
        assert error["code"] == "internal"
        assert "secret" not in error["detail"]
        detector.poison = lambda _: None
        live.frame(FRAMES[0])
        assert (await live.answer())["frame"] == 4
        assert await served.metric("rcnn_stream_frames_total", route="/detect/live", outcome="failed") == 4
        live.leave()
        await live.ended()


async def test_each_frame_has_its_deadline(serve: Serve) -> None:
    detector = FakeDetector()
    async with serve(detector) as served:
        live = socket(served, "/detect/live?timeout_ms=50")
        await live.opened()
        detector.free.clear()
        live.frame(FRAMES[0])
        assert (await live.answer())["error"]["code"] == "deadline_exceeded"
        detector.free.set()
        live.text('{"timeout_ms": 20000}')
        await live.answer()
        live.frame(FRAMES[1])
        assert (await live.answer())["frame"] == 1
        live.leave()
        await live.ended()


async def test_who_leaves_costs_the_device_nothing_more(serve: Serve) -> None:
    detector = FakeDetector()
    async with serve(detector) as served:
        live = socket(served)
        await live.opened()
        detector.free.clear()
        held = asyncio.ensure_future(served.client.post("/detect", content=FRAMES[1], headers=PNG))
        await eventually(lambda: len(detector.batches) == 1, "another request is on the device")
        live.frame(FRAMES[0])
        await eventually(lambda: served.app.state.service.queue_depth == 1, "the frame waits for the device")
        live.leave()
        await live.ended()
        assert served.app.state.service.queue_depth == 0
        detector.free.set()
        assert (await held).status_code == 200
        assert detector.reached == [SIZES[1]]
        assert await served.metric("rcnn_cancelled_total") == 1
        assert await served.metric("rcnn_streams", route="/detect/live") == 0


async def test_a_client_that_takes_no_answers_is_closed(serve: Serve) -> None:
    async with serve(timeout_ms=1000) as served:  # also the time of the frame itself
        live = socket(served)
        await live.opened()
        live.may_send.clear()
        live.frame(FRAMES[0])
        await eventually(lambda: bool(served.detector.batches), "the frame is detected")
        assert await live.closed() == (1011, "answers are not taken")


async def test_a_full_door_is_told_for_the_frame(serve: Serve) -> None:
    detector = FakeDetector()
    async with serve(detector, max_queue=1) as served:
        live = socket(served)
        await live.opened()
        detector.free.clear()
        held = asyncio.ensure_future(served.client.post("/detect", content=FRAMES[1], headers=PNG))
        await eventually(lambda: len(detector.batches) == 1, "another request is on the device")
        live.frame(FRAMES[0])
        answer = await live.answer()
        assert (answer["error"]["code"], answer["error"]["status"]) == ("overloaded", 429)
        detector.free.set()
        await held
        live.frame(FRAMES[0])
        assert (await live.answer())["frame"] == 1
        live.leave()
        await live.ended()


async def test_drain_closes_with_1012(serve: Serve) -> None:
    detector = FakeDetector()
    async with serve(detector) as served:
        live = socket(served)
        await live.opened()
        detector.free.clear()
        live.frame(FRAMES[0])
        await eventually(lambda: len(detector.batches) == 1, "the frame is on the device")
        served.app.state.service.drain()
        live.frame(FRAMES[1])
        await eventually(live.inbox.empty, "the next frame is received")
        detector.free.set()
        assert (await live.answer())["frame"] == 0, "what was accepted is answered"
        assert (await live.answer())["error"]["code"] == "draining"
        assert await live.closed() == (1012, "draining")
        status, refusal = await socket(served).refused()
        assert (status, refusal["code"]) == (503, "draining")
