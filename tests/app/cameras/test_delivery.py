"""Results go to webhooks and MQTT: signed, again until they are taken, and only the newest one waits."""

import asyncio
import hashlib
import hmac
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import FakeDetector
from tests.support.process import closed_port
from tests.support.served import eventually
from tests.support.servers.cameras import Receiver, Watched, line_with, watched

KEY = "a secret of 32 characters, or so."


@asynccontextmanager
async def hooked(
    detector: FakeDetector | None = None, **body: Any
) -> AsyncIterator[tuple[Watched, Receiver]]:
    """A stream whose results go to a receiver of this machine."""
    receiver = Receiver()
    async with receiver.listening(), watched(detector, (f"http://{receiver.host}",)) as here:
        await here.start(webhook={"url": f"http://{receiver.host}/hook?key=tok-en", "secret": KEY}, **body)
        yield here, receiver


async def delivered(here: Watched) -> dict[str, Any]:
    """What the list says of the only receiver."""
    [entry] = (await here.entry())["deliveries"]
    return dict(entry)


async def test_a_slow_receiver_gets_the_newest_result_and_one_waits_at_most() -> None:
    async with hooked() as (here, receiver):
        camera = here.served.app.state.cameras.find("gate")
        await eventually(lambda: len(receiver.requests) == 1, "the first result is on its way")
        await eventually(lambda: camera.entry().answered > 20, "the camera goes on")
        receiver.statuses.put_nowait(200)
        await eventually(lambda: len(receiver.requests) == 2, "the next one")
        entry = await delivered(here)
        assert entry["address"] == f"http://{receiver.host}/…"
        assert (entry["delivered"], entry["failed"], entry["reason"]) == (1, 0, None)
        assert entry["dropped"] >= 15
        dropped = await here.served.metric(
            "rcnn_camera_deliveries_total", outcome="dropped", receiver="webhook", stream="gate"
        )
        assert dropped >= entry["dropped"]
        (_, first), (head, body) = receiver.requests
        assert json.loads(first)["frame"] < 3
        assert json.loads(body)["frame"] > 15
        signature = hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
        assert f"x-signature-256: sha256={signature}\r\n" in head
        assert head.startswith("post /hook?key=tok-en http/1.1\r\n")


async def test_a_result_that_is_not_taken_is_sent_again_until_a_newer_one_takes_its_place() -> None:
    async with hooked() as (here, receiver):
        camera = here.served.app.state.cameras.find("gate")
        for number, status in enumerate((500, 302, 429), 1):
            await eventually(lambda number=number: len(receiver.requests) == number, "a try")
            seen = camera.entry().answered
            await eventually(lambda seen=seen: camera.entry().answered > seen + 1, "a newer result")
            receiver.statuses.put_nowait(status)
        await eventually(lambda: len(receiver.requests) == 4, "one more")
        entry = await delivered(here)
        assert (entry["delivered"], entry["failed"]) == (0, 3)
        assert entry["reason"] == "it answered with 429"
        frames = [json.loads(body)["frame"] for _, body in receiver.requests]
        assert frames == sorted(set(frames))
        receiver.statuses.put_nowait(204)
        await eventually(lambda: len(receiver.requests) == 5, "the next result")
        assert (await delivered(here))["reason"] is None


async def test_results_without_a_detection_can_be_left_out() -> None:
    async with hooked(FakeDetector(finds=lambda job: 0), skip_empty=True) as (here, receiver):
        camera = here.served.app.state.cameras.find("gate")
        await eventually(lambda: camera.entry().answered > 3, "results")
        assert receiver.requests == []
        assert await here.delete() == 204


@asynccontextmanager
async def broker(folder: Path, port: int) -> AsyncIterator[None]:
    """Mosquitto on this port of this machine."""
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = await asyncio.create_subprocess_exec(
        "mosquitto", "-c", str(config), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def published(port: int) -> dict[str, Any]:
    """The next result on a topic, for which the broker may still start."""
    from aiomqtt import Client, MqttError

    async with asyncio.timeout(20):
        while True:
            with suppress(MqttError):
                async with Client("127.0.0.1", port) as client:
                    await client.subscribe("cameras/gate")
                    async for message in client.messages:
                        return dict(json.loads(message.payload))


@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
async def test_results_are_published_and_again_when_the_broker_is_back(tmp_path: Path) -> None:
    pytest.importorskip("aiomqtt")
    port = closed_port()
    async with watched(addresses=(f"mqtt://127.0.0.1:{port}",)) as here:
        await here.start(mqtt={"url": f"mqtt://127.0.0.1:{port}", "topic": "cameras/gate"})
        camera = here.served.app.state.cameras.find("gate")
        await eventually(lambda: camera.deliveries[0].entry().failed > 1, "there is no broker yet")
        for _ in range(2):
            async with broker(tmp_path, port):
                result = await published(port)
                assert (result["stream"], result["names"]) == ("gate", ["Square", "disc"])
        assert (await delivered(here))["delivered"] > 0


async def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(addresses=("mqtt://127.0.0.1",)) as here:
        for module, extra, body in (
            ("av", "video", {}),
            ("aiomqtt", "mqtt", {"mqtt": {"url": "mqtt://127.0.0.1", "topic": "a"}}),
            ("trackers", "track", {"track": True}),
        ):
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, module, None)
                answer = await here.post(**body)
            assert answer.status_code == 422
            assert f"pip install 'rcnn-serve[{extra}]'" in answer.json()["detail"]


async def test_objects_keep_their_ids_from_frame_to_frame() -> None:
    pytest.importorskip("trackers")
    async with watched() as here:
        await here.start(track=True)
        socket = await here.watch()
        lines = [await line_with(socket, "track_ids") for _ in range(6)]
        ids = [line["track_ids"] for line in lines]
        assert len(ids[-1]) == len(lines[-1]["names"]) == 2
        assert ids[-1] == ids[-2]
        assert len(set(ids[-1])) == 2
        assert None not in ids[-1]
