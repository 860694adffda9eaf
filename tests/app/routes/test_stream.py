"""POST /detect/stream: the frames of one file, read as fast as they are answered."""

import asyncio
import json
import re
import sys
from typing import Any

import pytest

from models.images.decoder import Limits, decode
from tests.support.asgi_request import AsgiRequest
from tests.support.data.moving import animation, video
from tests.support.fakes import picture
from tests.support.served import Serve, Served, eventually

GIF = {"Content-Type": "image/gif"}
MP4 = {"Content-Type": "video/mp4"}


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def posted(served: Served, data: bytes, query: str = "", **headers: str) -> list[dict[str, Any]]:
    """The lines of an answer."""
    answer = await served.client.post(f"/detect/stream{query}", content=data, headers=GIF | headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert "content-length" not in answer.headers
    return lines(answer.text)


@pytest.mark.parametrize(("data", "headers"), [(animation(), GIF), (video(), MP4)], ids=["gif", "mp4"])
async def test_a_line_a_frame_and_one_at_the_end(
    served: Served, data: bytes, headers: dict[str, str]
) -> None:
    *found, end = await posted(served, data, "?score_threshold=0.9&box_format=xywh", **headers)
    assert [line["frame"] for line in found] == [0, 1, 2, 3, 4]
    assert [line["seconds"] for line in found] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert end == {"end": "complete", "frames": 5}
    alone = await served.client.post(
        "/detect?score_threshold=0.9&box_format=xywh",
        content=picture(64, 48),
        headers={"Content-Type": "image/png"},
    )
    changing = ("frame", "seconds", "timings_ms", "request_id")
    expected = {key: value for key, value in alone.json().items() if key not in changing}
    assert [{k: v for k, v in line.items() if k not in changing} for line in found] == [expected] * 5
    assert await served.metric("rcnn_stream_frames_total", route="/detect/stream", outcome="answered") == 5
    assert await served.metric("rcnn_streams", route="/detect/stream") == 0


async def test_every_and_max_frames_choose_the_frames(served: Served) -> None:
    *found, end = await posted(served, animation(), "?every=2")
    assert [line["frame"] for line in found] == [0, 2, 4]
    assert end == {"end": "complete", "frames": 3}
    *found, end = await posted(served, animation(), "?every=2&max_frames=2")
    assert [line["frame"] for line in found] == [0, 2]
    assert end == {"end": "max_frames", "frames": 2}
    assert (await posted(served, animation(), "?max_frames=5"))[-1]["end"] == "complete"


async def test_pixels_between_two_answers_are_bounded(serve: Serve) -> None:
    """64 x 48 pixels of at most 4096, ten times: 13 frames."""
    async with serve(max_pixels=4096) as served:
        assert [line.get("frame") for line in await posted(served, animation(), "?every=13")] == [0, None]
        for data, headers in ((animation(), GIF), (video(), MP4)):
            refused = await served.client.post("/detect/stream?every=14", content=data, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")
            assert "at most 40960 pixels are allowed; give every=13 or less" in refused.json()["detail"]


async def test_the_deadline_counts_between_skipped_frames(served: Served) -> None:
    """A thousand skipped frames take longer than the second answer has time; no thread goes on with them."""
    two = animation(size=(500, 400), greys=(40, 90))
    data = two[:-1] + 999 * two[two.rindex(b"!\xf9\x04") : -1] + b";"
    first, failed, end = await posted(served, data, "?every=1000&timeout_ms=100")
    assert (first["frame"], failed["error"]["code"]) == (0, "deadline_exceeded")
    assert end == {"end": "error", "frames": 2}
    gauge = served.app.state.service.metrics.abandoned_decodes
    await eventually(lambda: gauge.collect()[0].samples[0].value == 0, "the step ends", seconds=1)


async def test_the_frames_of_a_body_are_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.routes.stream.MAX_FRAMES", 3)
    assert (await posted(served, animation()))[-1] == {"end": "max_frames", "frames": 3}
    refused = await served.client.post("/detect/stream?max_frames=4", content=animation(), headers=GIF)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")
    assert "at most 3 frames" in refused.json()["detail"]


def parts(answer: Any) -> list[tuple[str, bytes]]:
    """Content type and body of the parts of a multipart/x-mixed-replace."""
    assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
    rest, found = answer.content, []
    while rest != b"--frame--\r\n":
        head, _, rest = rest.partition(b"\r\n\r\n")
        head, _, model = head.partition(b"\r\nX-Model: ")
        assert not model or model == b"fake\r\nX-Model-Version: 1"
        match = re.fullmatch(rb"--frame\r\nContent-Type: (\S+)\r\nContent-Length: (\d+)", head)
        assert match, head
        found.append((match[1].decode(), rest[: int(match[2])]))
        assert rest[int(match[2]) :].startswith(b"\r\n")
        rest = rest[int(match[2]) + 2 :]
    return found


async def test_drawn_frames_replace_one_another(served: Served) -> None:
    for query, accept, kind in (
        ("?format=jpeg", "*/*", "jpeg"),
        ("?format=png", "application/x-ndjson", "png"),
        ("", "multipart/x-mixed-replace", "jpeg"),
        ("", "image/png, application/json;q=0.1", "png"),
    ):
        headers = GIF | {"Accept": accept}
        answer = await served.client.post(f"/detect/stream{query}", content=animation(), headers=headers)
        frames = parts(answer)
        assert [media_type for media_type, _ in frames] == [f"image/{kind}"] * 5
        drawn = [decode(body, Limits(1_000_000)) for _, body in frames]
        assert {image.format for image in drawn} == {kind.upper()}
        assert all(len({tuple(pixel) for pixel in image.pixels.reshape(-1, 3)}) > 2 for image in drawn)
    for accept in ("*/*", "application/json", "application/x-ndjson", "text/html"):
        assert len(await posted(served, animation(), Accept=accept)) == 6  # lines


async def test_the_file_may_be_in_a_form(served: Served) -> None:
    answer = await served.client.post("/detect/stream", files={"file": ("clip.mp4", video(), "video/mp4")})
    assert len(lines(answer.text)) == 6


class SlowRequest(AsgiRequest):
    """A client that takes a piece of the answer when the test lets it."""

    def __init__(self, served: Served, data: bytes) -> None:
        self.taken = asyncio.Semaphore(0)
        self.waiting = 0
        super().__init__(served.app, "/detect/stream", GIF)
        self.send(data)

    async def _send(self, message: Any) -> None:
        if message.get("body"):
            self.waiting += 1
            await self.taken.acquire()
        await super()._send(message)

    async def has_answers(self, count: int) -> None:
        """Wait until so many answers were there to be taken."""
        await eventually(lambda: self.waiting == count, f"answer {count} waits to be taken")


async def test_a_frame_is_read_once_the_answer_before_is_taken(served: Served) -> None:
    request = SlowRequest(served, animation())
    for frame in range(1, 6):
        await request.has_answers(frame)
        assert len(served.detector.prepared) == frame
        request.taken.release()
    request.taken.release()
    await request.answered()


async def test_a_client_that_takes_no_answers_is_cut_off(serve: Serve) -> None:
    async with serve(timeout_ms=1000) as served:  # also the time of the frame itself
        await SlowRequest(served, animation()).ended()
        assert len(served.detector.prepared) == 1
        assert await served.metric("rcnn_streams", route="/detect/stream") == 0


async def test_a_client_that_leaves_ends_the_work(served: Served) -> None:
    detector, request = served.detector, SlowRequest(served, animation())
    await request.has_answers(1)
    detector.free.clear()
    request.taken.release()
    await eventually(lambda: len(detector.batches) == 2, "the second frame is on the device")
    request.leave()
    await request.ended()
    detector.free.set()
    assert len(detector.prepared) == 2
    assert await served.metric("rcnn_streams", route="/detect/stream") == 0
    assert await served.metric("rcnn_in_flight") == 0


async def test_a_frame_that_fails_does_so_alone(served: Served) -> None:
    served.detector.poison = lambda job: (
        RuntimeError("a secret") if len(served.detector.batches) == 2 else None
    )
    found = await posted(served, animation())
    assert [line.get("frame") for line in found] == [0, 1, 2, 3, 4, None]
    assert found[1]["error"]["code"] == "internal"
    assert "secret" not in json.dumps(found)
    assert found[2]["names"] == ["Square", "disc"]
    assert found[5] == {"end": "complete", "frames": 5}
    assert await served.metric("rcnn_stream_frames_total", route="/detect/stream", outcome="failed") == 1
    served.detector.batches.clear()
    answer = await served.client.post("/detect/stream?format=jpeg", content=animation(), headers=GIF)
    kinds = [media_type for media_type, _ in parts(answer)]
    assert kinds == ["image/jpeg", "application/problem+json", "image/jpeg", "image/jpeg", "image/jpeg"]


async def test_a_file_that_is_cut_ends_with_an_error(served: Served) -> None:
    data = animation()
    *_, failed, end = await posted(served, data[: len(data) * 3 // 4])
    assert failed["error"]["code"] == "invalid_image"
    assert failed["frame"] == end["frames"] - 1
    assert end["end"] == "error"


async def refused(served: Served, data: bytes, media_type: str, status: int, query: str = "") -> Any:
    """The problem that a request is answered with."""
    headers = {"Content-Type": media_type}
    answer = await served.client.post(f"/detect/stream{query}", content=data, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_what_fails_at_the_first_frame_is_a_problem(serve: Serve) -> None:
    async with serve(max_pixels=10_000, max_body_bytes=50_000) as served:
        for data, media_type, status, code in (
            (b"no picture", "image/gif", 400, "invalid_image"),
            (b"", "video/mp4", 400, "invalid_image"),
            (video()[:100], "video/mp4", 400, "invalid_image"),
            (animation(size=(101, 100)), "image/gif", 413, "image_too_large"),
            (bytes(50_001), "video/mp4", 413, "body_too_large"),
            (b"{}", "text/plain", 415, "unsupported_media_type"),
        ):
            assert (await refused(served, data, media_type, status))["code"] == code
            assert await served.metric("rcnn_streams", route="/detect/stream") == 0


async def test_without_pyav_the_problem_names_what_to_install(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = video()
    monkeypatch.setitem(sys.modules, "av", None)
    problem = await refused(served, data, "video/mp4", 415)
    assert problem["code"] == "unsupported_media_type"
    assert "pip install 'rcnn-serve[video]'" in problem["detail"]


async def test_the_open_streams_are_bounded(serve: Serve) -> None:
    async with serve(max_streams=1) as served:
        first = SlowRequest(served, animation())
        await first.has_answers(1)
        answer = await served.client.post("/detect/stream", content=animation(), headers=GIF)
        assert (answer.status_code, answer.json()["code"]) == (429, "overloaded")
        assert answer.headers["retry-after"]
        first.leave()
        first.taken.release()
        await first.ended()
        assert len(await posted(served, animation())) == 6


async def test_a_frame_waits_while_the_queue_is_full(serve: Serve) -> None:
    async with serve(max_queue=1) as served:
        detector, request = served.detector, SlowRequest(served, animation(greys=(40, 90)))
        await request.has_answers(1)
        detector.free.clear()
        headers = {"Content-Type": "image/png"}
        other = asyncio.create_task(served.client.post("/detect", content=picture(), headers=headers))
        await eventually(lambda: len(detector.batches) == 2, "another request is on the device")
        request.taken.release()
        detector.free.set()
        assert (await other).status_code == 200
        await request.has_answers(2)
        request.taken.release()
        request.taken.release()
        await request.answered()


async def test_drain_ends_a_stream_behind_the_frame_that_was_accepted(served: Served) -> None:
    request = SlowRequest(served, animation())
    await request.has_answers(1)
    served.app.state.service.drain()
    for _ in range(3):
        request.taken.release()
    await request.answered()
    first, problem, end = lines(request._body.decode())
    assert (first["frame"], problem["error"]["code"], end["end"]) == (0, "draining", "error")


async def test_a_key_is_needed(serve: Serve) -> None:
    async with serve(api_keys="secret") as served:
        await refused(served, animation(), "image/gif", 401)
        assert len(await posted(served, animation(), Authorization="Bearer secret")) == 6


async def test_it_is_documented(served: Served) -> None:
    described = (await served.client.get("/openapi.json")).json()["paths"]["/detect/stream"]["post"]
    assert {"every", "max_frames", "format", "score_threshold"} <= {
        one["name"] for one in described["parameters"]
    }
    assert {"200", "400", "401", "413", "415", "422", "429", "503", "504"} <= set(described["responses"])
    assert set(described["responses"]["200"]["content"]) == {
        "application/x-ndjson",
        "multipart/x-mixed-replace",
    }
    example = described["responses"]["200"]["content"]["application/x-ndjson"]["example"]
    assert lines(example)[-1] == {"end": "complete", "frames": 1}
