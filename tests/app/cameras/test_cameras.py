"""POST /streams: a camera is read again after every cut, its newest frame first, and its end is clear."""

import asyncio
import gc
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from app.serving.models.release import COLLECT_SECONDS
from app.settings.settings import Settings
from tests.support.data.moving import Socket, video
from tests.support.fakes import FakeDetector
from tests.support.served import eventually
from tests.support.servers.cameras import ADMIN, line_with, watched
from tests.support.several import FIRST, SECOND, Models

SECRETS = ("pass-word", "tok-en", "video")


async def test_a_stream_survives_three_cuts_and_shows_no_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with watched() as here:
        started = await here.start(score_threshold=0.9, roi="0,0,32,24")
        assert started["source"] == f"http://{here.camera.host}/…"
        assert started["options"] == {"score_threshold": 0.9, "roi": [[0, 0, 32, 24]]}
        socket = await here.watch()
        for cuts in range(3):
            result = await line_with(socket, "boxes")
            assert (result["stream"], result["names"], result["model"]) == ("gate", ["Square"], "fake")
            here.camera.cut()
            await line_with(socket, "state", "waiting")
            await line_with(socket, "state", "running")
            assert here.camera.connections == cuts + 2
        assert here.pauses.failed == [1, 1, 1], "a pause after frames is short again"
        later = await line_with(socket, "boxes")
        assert later["frame"] > result["frame"]
        entry = await here.entry()
        assert (entry["state"], entry["reason"], entry["connections"]) == ("running", None, 4)
        assert entry["frames"] >= entry["answered"] + entry["dropped"]
        assert entry["last_frame"] >= later["time"]
        listed = (await here.served.client.get("/streams", headers=ADMIN)).text
        metrics = (await here.served.client.get("/metrics")).text
        assert 'rcnn_camera_connections_total{stream="gate"} 4.0' in metrics
        assert await here.served.metric("rcnn_streams", route="/streams") == 1
        assert await here.delete() == 204
        assert (await line_with(socket, "state", "ended"))["reason"] == "it was deleted"
        assert await socket.closed() == (1000, "")
        assert (await here.served.client.get("/streams", headers=ADMIN)).json() == {"streams": []}
        assert "rcnn_camera_frames_total{" not in (await here.served.client.get("/metrics")).text
    text = listed + metrics + caplog.text + json.dumps([started, entry, result])
    assert not [secret for secret in SECRETS if secret in text]
    assert "the stream gate is waiting" in caplog.text


async def test_the_newest_frame_comes_first_and_none_is_queued() -> None:
    detector = FakeDetector()
    detector.free.clear()
    async with watched(detector) as here:
        await here.start()
        await eventually(lambda: len(detector.batches) == 1, "the first frame is on the device")
        reader = here.served.app.state.cameras.find("gate")
        await eventually(lambda: reader.entry().frames > 20, "the camera goes on")
        assert await here.served.metric("rcnn_in_flight") == 1
        assert len(detector.prepared) == 1
        socket = await here.watch()
        detector.free.set()
        first, newest = await line_with(socket, "boxes"), await line_with(socket, "boxes")
        assert first["frame"] < 3
        assert newest["frame"] >= 20
        assert newest["dropped"] == newest["frame"] - first["frame"] - 1 + first["dropped"]
        socket.leave()
        await socket.ended()


async def test_lines_of_json_end_with_the_stream() -> None:
    async with watched() as here:
        await here.start(format="objects", fps=50)
        lines = here.served.client.get("/streams/gate/detections", headers=ADMIN)
        reading = asyncio.create_task(lines)
        camera = here.served.app.state.cameras.find("gate")
        await eventually(lambda: camera.entry().answered > 2, "results")
        head = await here.served.client.head("/streams/gate/detections", headers=ADMIN)
        assert head.status_code == 200
        await here.delete()
        answer = await reading
        first, *others, last = [json.loads(line) for line in answer.text.splitlines()]
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert (first["stream"], "state" in first) == ("gate", True)
        assert any(one["objects"][0]["name"] == "Square" for one in others if "objects" in one)
        assert last == {"stream": "gate", "state": "ended", "reason": "it was deleted"}


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no source": ({"source": None}, 422, "source is missing"),
    "no name": ({"name": None}, 422, "name is missing"),
    "a wrong name": ({"name": "../gate"}, 422, "name="),
    "an unknown option": ({"colour": 1}, 422, "unknown parameter 'colour'"),
    "an option out of range": ({"score_threshold": 2}, 422, "score_threshold"),
    "an unknown class": ({"classes": ["unicorn"]}, 422, "unicorn"),
    "an unknown model": ({"model": "nonesuch"}, 404, "nonesuch"),
    "another host": ({"source": "http://127.0.0.2/video"}, 403, "RCNN_STREAM_ADDRESSES"),
    "another scheme": ({"source": "rtsp://127.0.0.1/video"}, 403, "RCNN_STREAM_ADDRESSES"),
    "a protocol of FFmpeg": ({"source": "concat:/etc/passwd"}, 422, "no address"),
    "another protocol of FFmpeg": ({"source": "tcp://127.0.0.1:80"}, 422, "scheme tcp"),
    "a path beside the allowed one": ({"source": "http://127.0.0.1/video/..%2Fadmin"}, 422, "without them"),
    "another spelling of it": ({"source": "http://127.0.0.1/video/..;/admin"}, 422, "without them"),
    "a file": ({"source": "/etc/passwd"}, 403, "RCNN_STREAM_ADDRESSES"),
    "a path with a null": ({"source": "/videos/a\0b"}, 422, "printed"),
    "a broker as a source": ({"source": "mqtt://127.0.0.1"}, 422, "rtsp"),
    "a webhook elsewhere": (
        {"webhook": {"url": "http://127.0.0.2/hook", "secret": "s" * 16}},
        403,
        "webhook.url",
    ),
    "a webhook without a secret": ({"webhook": {"url": "http://127.0.0.1/hook"}}, 422, "webhook"),
    "a broker elsewhere": ({"mqtt": {"url": "mqtt://127.0.0.2", "topic": "a"}}, 403, "mqtt.url"),
}


async def test_what_is_not_allowed_starts_nothing() -> None:
    async with watched() as here:
        for name, (body, status, text) in REFUSED.items():
            answer = await here.post(**body)
            assert (answer.status_code, text in answer.json()["detail"]) == (status, True), (
                name,
                answer.text,
            )
        assert here.camera.connections == 0
        assert await here.served.metric("rcnn_streams", route="/streams") == 0


async def test_only_an_administrator_starts_sees_and_watches_streams() -> None:
    async with watched(max_streams=1, api_keys="guest") as here:
        client = here.served.client
        for headers in ({}, {"X-API-Key": "guest"}):
            for method, path in (("POST", ""), ("GET", ""), ("GET", "/gate"), ("DELETE", "/gate")):
                assert (await client.request(method, f"/streams{path}", headers=headers)).status_code == 401
            assert (await client.get("/streams/gate/detections", headers=headers)).status_code == 401
        refused = await Socket(here.served.app, "/streams/gate/detections", x_api_key="guest").refused()
        assert refused[0] == 401
        await here.start()
        assert (await here.post()).json()["code"] == "conflict"
        assert (await here.post(name="yard")).json()["code"] == "overloaded"
        for path in ("/streams/yard", "/streams/yard/detections"):
            assert (await client.get(path, headers=ADMIN)).status_code == 404
    for off in ({"admin_keys": ()}, {"stream_addresses": ()}):
        async with watched(**off) as here:
            answer = await here.post()
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert f"RCNN_{next(iter(off)).upper()}" in answer.json()["detail"]


async def test_a_file_is_read_once_and_one_that_is_no_video_fails(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(video())
    (tmp_path / "text.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n" * 50)
    async with watched(addresses=(str(tmp_path),)) as here:
        for name, state, reason in (
            ("film", "ended", "the file has ended"),
            ("text", "failed", "no video"),
            ("none", "waiting", "no such file"),
        ):
            entry = await here.start(name=name, source=f"{tmp_path}/{name}.mp4")
            assert entry["source"] == f"{tmp_path}/{name}.mp4"
            camera = here.served.app.state.cameras.find(name)
            await eventually(lambda camera=camera, state=state: camera.state == state, state)
            assert reason in (await here.entry(name))["reason"]
        film = await here.entry("film")
        assert (film["frames"], film["answered"] + film["dropped"]) == (5, 5)
        late = await here.watch("film")
        assert (await late.answer())["state"] == "ended"
        await late.closed()
        assert (await here.post(name="out", source=f"{tmp_path}/../film.mp4")).status_code == 403


async def test_a_stream_waits_for_its_model_and_never_holds_up_an_unload() -> None:
    async with watched(loader=Models(), model=f"{FIRST},{SECOND}") as here:
        registry, client = here.served.app.state.service.models, here.served.client
        await here.start(model=SECOND)
        socket = await here.watch()
        assert (await line_with(socket, "boxes"))["model"] == SECOND
        assert (await client.post(f"/models/{SECOND}/unload", headers=ADMIN)).status_code == 200
        assert SECOND in (await line_with(socket, "state", "waiting"))["reason"]
        gc.collect()
        await eventually(
            lambda: len(registry._in_memory) == 1, "the model is freed", seconds=4 * COLLECT_SECONDS
        )
        before = here.camera.connections
        assert (await client.post(f"/models/{SECOND}/load", headers=ADMIN)).status_code == 200
        assert (await line_with(socket, "boxes"))["model_version"] == f"{SECOND}-2"
        assert here.camera.connections == before + 1, "it is not opened while the model is away"


async def test_a_drain_ends_all_streams(tmp_path: Path) -> None:
    async with watched(addresses=(str(tmp_path),)) as here:
        await here.start()
        await here.start(name="away", source=f"{tmp_path}/none.mp4")
        sockets = [await here.watch(name) for name in ("gate", "away")]
        here.served.app.state.service.drain()
        for socket in sockets:
            assert (await line_with(socket, "state", "ended"))["reason"] == "the service is stopping"
            assert (await socket.closed())[0] == 1012
        assert (await here.post(name="late")).json()["code"] == "draining"
    assert here.served.app.state.service.closed_cleanly


def test_addresses_are_checked_at_the_start() -> None:
    for wrong in ("cameras", "rtsp://", "ftp://a", "rtsp://u:p@a", "rtsp://10.0.0.1/24", "http://a/../b"):
        with pytest.raises(ValueError, match="stream_addresses"):
            Settings(stream_addresses=wrong)
