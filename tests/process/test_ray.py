"""The service on a real Ray, as `make test-ray` runs it; two processes compute, and Ray is ended after it."""

import asyncio
import collections
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as pillow

from app.main import create_app
from app.settings.settings import Settings
from bench.harness.ray_cluster import cluster, deploy, kill_one, replicas
from models.shapes.scenes import draw_scene
from tests.support.servers.ray_load import ClosedLoop, ReplicaAnswer, send_image

# Ray's own warnings are not ours to mend.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

SHAPES = {"model": "shapes", "threads": 1}
SIZES = ((320, 240), (240, 320), (256, 256), (500, 300), (97, 61))


def mixed(count: int) -> list[bytes]:
    """Scenes of several sizes, as JPEG and PNG in turns."""
    images = []
    for index in range(count):
        file = io.BytesIO()
        scene = pillow.fromarray(draw_scene(5, index).pixels).resize(SIZES[index % len(SIZES)])
        scene.save(file, "PNG" if index % 2 else "JPEG")
        images.append(file.getvalue())
    return images


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of two replicas; a test that wants others deploys them, and says so itself."""
    with cluster(**SHAPES, replicas=2) as url:
        yield url


async def until(condition: Callable[[], bool], what: str, seconds: float = 180) -> None:
    """Replicas come and go by processes: there is nothing to wait for but the count."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  # Ray tells nobody
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail(f"waited {seconds} s in vain: {what}")


async def asked(url: str, images: Sequence[bytes], at_once: int = 8) -> list[ReplicaAnswer]:
    """The answer for each image, so many at a time."""
    free = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:

        async def one(number: int) -> ReplicaAnswer:
            async with free:
                return await send_image(client, number, images)

        return await asyncio.gather(*map(one, range(len(images))))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """The same objects, to the rounding that batches of other sizes make."""
    if sorted(one["labels"]) != sorted(other["labels"]):
        return False
    left, right = (sorted(zip(a["labels"], a["boxes"], a["scores"], strict=True)) for a in (one, other))
    boxes = [np.array([box for _, box, _ in side], dtype=float) for side in (left, right)]
    scores = [np.array([score for _, _, score in side], dtype=float) for side in (left, right)]
    return np.allclose(*boxes, atol=0.02) and np.allclose(*scores, atol=2e-4)


async def test_replicas_answer_as_a_single_server_does(url: str) -> None:
    images = mixed(100)
    answers = await asked(url, images)
    assert [answer.status for answer in answers] == [200] * 100
    assert [answer.identity for answer in answers] == [f"n{number}" for number in range(100)]
    assert len({answer.replica for answer in answers}) == 2
    app = create_app(Settings(model="shapes", inference_threads=1))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=60)
    async with app.router.lifespan_context(app), client:
        await app.state.service.started()
        single = [await send_image(client, number, images) for number in range(100)]
    assert sum(len(answer.body["boxes"]) for answer in single) > 100
    wrong = [one.sent for one, other in zip(answers, single, strict=True) if not same(one.body, other.body)]
    assert wrong == []


async def test_all_replicas_are_one_scrape(url: str) -> None:
    answers = await asked(url, mixed(10))
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        text = (await client.get("/metrics")).text
    ready = [line for line in text.splitlines() if line.startswith("rcnn_model_ready{")]
    assert len(ready) == 2
    for replica in {answer.replica for answer in answers}:
        assert f'rcnn_model_ready{{replica="{replica}"}} 1.0' in ready


async def test_a_deadline_and_a_bad_image_are_told_by_the_replica(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        sent = {"Content-Type": "image/jpeg", "X-Request-ID": "mine"}
        late = await client.post("/detect?timeout_ms=1", content=mixed(1)[0], headers=sent)
        bad = await client.post("/detect", content=b"no image", headers=sent)
    assert (late.status_code, late.json()["code"]) in ((504, "deadline_exceeded"), (429, "overloaded"))
    assert (bad.status_code, bad.json()["code"]) == (400, "invalid_image")
    for response in (late, bad):
        assert response.headers.get_list("x-request-id") == ["mine"] == [response.json()["request_id"]]
        assert response.headers["x-replica"]


async def test_a_killed_replica_loses_what_is_inside_it_and_nothing_else(url: str) -> None:
    clients, images = 8, mixed(8)
    async with ClosedLoop(url, images, clients) as crowd:
        await until(lambda: len({answer.replica for answer in crowd.answers}) == 2, "both answer")
        before = len(crowd.answers)
        kill_one()
        await until(lambda: len(crowd.answers) >= before + 60, "the other one answers")
        await until(lambda: len(replicas()) == 2, "another has been started")
        known = {answer.replica for answer in crowd.answers if answer.replica}
        await until(lambda: len({a.replica for a in crowd.answers} - known - {""}) == 1, "it answers too")
    lost = [answer for answer in crowd.answers if answer.status != 200]
    assert 0 < len(lost) <= clients, collections.Counter(answer.status for answer in crowd.answers)
    for answer in lost:
        assert (answer.status, answer.body["code"], answer.retry_after) == (503, "failing", "1")
        assert answer.body["request_id"] == answer.identity
    again = await asked(url, [images[answer.sent] for answer in lost])
    assert {answer.status for answer in again} == {200}


async def test_replicas_come_and_go_with_the_load_and_no_request_fails(url: str) -> None:
    scale = {"upscale_seconds": 1, "downscale_seconds": 2, "window_seconds": 11, "ongoing": 2}
    await asyncio.to_thread(deploy, **SHAPES, replicas=1, max_replicas=2, **scale)
    images = mixed(8)
    async with ClosedLoop(url, images, 1) as few:
        await until(lambda: len(replicas()) == 1, "one is enough for one client")
        async with ClosedLoop(url, images, 8) as many:
            await until(lambda: len(replicas()) == 2, "eight want a second one")
            more = {answer.replica for answer in few.answers + many.answers}
            await until(lambda: bool({a.replica for a in many.answers} - more), "the second one answers")
        await until(lambda: len(replicas()) == 1, "one client wants one again")
        last = len(few.answers)
        await until(lambda: len(few.answers) > last + 5, "the one that is left answers")
    assert collections.Counter(answer.status for answer in few.answers + many.answers).keys() == {200}


async def test_who_finds_one_replica_full_is_answered_by_the_other(url: str) -> None:
    """Two places in each, and four may wait before them: up to there nobody sees a 429."""
    await asyncio.to_thread(deploy, **SHAPES, replicas=2, max_queue=2)
    images = mixed(8)
    async with ClosedLoop(url, images, 4) as crowd:
        await until(lambda: len(crowd.answers) >= 60, "four clients fill two replicas")
    told = collections.Counter((answer.status, answer.replica) for answer in crowd.answers)
    assert len(told) == 2, told
    assert {status for status, _ in told} == {200}, told
    answers = await asked(url, mixed(64), at_once=64)
    counted = collections.Counter(answer.status for answer in answers)
    assert counted.keys() == {200, 429}, counted
    for refused in (answer for answer in answers if answer.status == 429):
        assert (refused.body["code"], refused.body["request_id"]) == ("overloaded", refused.identity)
        assert int(refused.retry_after) >= 1
