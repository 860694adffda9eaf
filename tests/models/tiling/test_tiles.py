"""Images in tiles: small objects found, each once and whole; one tile changes nothing; every bound holds."""

import asyncio
import base64
import io
import itertools
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as pillow

from app.errors import Overloaded
from app.main import create_app
from app.serving.admission import Admission
from app.settings.settings import Settings
from models.detections import Detections
from models.detector import Job
from models.images.decoder import Image
from models.options import Options
from models.tiling.tiled_detect import detect_tiled
from models.tiling.tiles import MOST_TILES, ResizeLimits, Tiling, TooManyTiles, merge, tiles_of
from tests.conftest import AsgiRequest, Serve, Served, eventually
from tests.support.fakes import CARD, FakeCanvas, FakeDetector
from tests.support.networks import random_detector

PNG = {"Content-Type": "image/png"}
LEAST_SEEN = 8  # canvas px: what is smaller is not seen by the detector below
SIGHT = ResizeLimits(CARD.min_size, CARD.max_size)
LATE = 1e9


@dataclass(frozen=True)
class Thing:
    """A rectangle of one colour; its box in px of the image."""

    box: tuple[int, int, int, int]
    label: int = 1
    score: float = 0.8


@dataclass(frozen=True)
class Seen(FakeCanvas):
    """A canvas of the detector that looks at pixels."""

    things: tuple[Thing, ...] = ()


class Looking(FakeDetector):
    """Finds each rectangle as far as it is in the picture, if it is large enough on the canvas."""

    def prepare(self, image: Image, size: int | None) -> Seen:
        canvas = super().prepare(image, size)
        scale = canvas.content[0] / canvas.image_size[0]
        found = [thing for thing in things_in(image.pixels) if min(sides(thing.box)) * scale >= LEAST_SEEN]
        return Seen(canvas.key, canvas.content, canvas.image_size, tuple(found))

    def _found(self, job: Any) -> Detections:
        options = job.options
        found = sorted(job.canvas.things, key=lambda thing: -thing.score)
        kept = [
            thing
            for thing in found
            if thing.score >= options.score_threshold
            and (options.classes is None or thing.label in options.classes)
        ]
        return detections(kept[: options.max_detections])


def sides(box: Sequence[float]) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


def detections(things: Sequence[Thing]) -> Detections:
    return Detections(
        np.array([thing.box for thing in things], np.float32).reshape(-1, 4),
        np.array([thing.label for thing in things], np.int64),
        np.array([thing.score for thing in things], np.float32),
    )


def draw(size: tuple[int, int], things: Sequence[Thing]) -> bytes:
    """A PNG of (width, height): each thing in a colour that says which one it is, its label and its score."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for number, thing in enumerate(things, start=1):
        x1, y1, x2, y2 = thing.box
        pixels[y1:y2, x1:x2] = (number, thing.label, round(thing.score * 250))
    file = io.BytesIO()
    pillow.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def things_in(pixels: Any) -> list[Thing]:
    found = []
    for number in np.unique(pixels[..., 0]).tolist():
        ys, xs = np.nonzero(pixels[..., 0] == number)
        if number:
            _, label, score = pixels[ys[0], xs[0]].tolist()
            box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
            found.append(Thing(box, label, score / 250))
    return found


def grid(size: tuple[int, int], side: int = 12, step: int = 61) -> list[Thing]:
    """Small things all over the image, up to its borders."""
    width, height = size
    places = [(x, y) for y in range(0, height - side + 1, step) for x in range(0, width - side + 1, step)]
    return [Thing((x, y, x + side, y + side)) for x, y in places][:255]


async def detect(served: Served, content: bytes, query: str) -> httpx.Response:
    return await served.client.post(f"/detect?{query}", content=content, headers=PNG)


async def answer(served: Served, content: bytes, query: str) -> dict[str, Any]:
    response = await detect(served, content, query)
    assert response.status_code == 200, response.text
    return dict(response.json())


def boxes(found: dict[str, Any]) -> list[tuple[float, ...]]:
    return sorted(tuple(box) for box in found["boxes"])


def lasting(found: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from request to request."""
    return {key: value for key, value in found.items() if key not in ("timings_ms", "request_id")}


# what is found


@pytest.mark.parametrize("query", ["tile=auto", "tile=128", "tile=150&tile_overlap=0.3", "tile=160"])
async def test_small_things_are_found_each_once_and_at_their_pixels(serve: Serve, query: str) -> None:
    size = (900, 700)
    things = grid(size)
    image = draw(size, things)
    async with serve(Looking()) as served:
        assert boxes(await answer(served, image, "max_detections=1000")) == []
        found = await answer(served, image, f"{query}&max_detections=1000")
    assert boxes(found) == sorted(tuple(map(float, thing.box)) for thing in things)
    assert found["image"] == {"width": 900, "height": 700}


async def test_a_thing_that_every_tile_cuts_is_found_whole_and_once(serve: Serve) -> None:
    large = Thing((100, 100, 800, 650), 2, 0.9)
    image = draw((900, 700), [large, Thing((300, 300, 310, 310))])
    async with serve(Looking()) as served:
        found = await answer(served, image, "tile=auto")
        assert served.detector.prepared[1:] != [], "there were tiles"
    assert boxes(found) == [(100.0, 100.0, 800.0, 650.0), (300.0, 300.0, 310.0, 310.0)]
    assert found["scores"] == sorted(found["scores"], reverse=True)


async def test_a_thing_across_two_tiles_is_no_fragment_wherever_it_lies(serve: Serve) -> None:
    """It moves through the overlap: 20 px, where 26 overlap."""
    assert [tile.left for tile in tiles_of((230, 128), Tiling(128), SIGHT)] == [0, 102]
    async with serve(Looking()) as served:
        for left in range(70, 140, 2):
            thing = Thing((left, 50, left + 20, 70))
            found = await answer(served, draw((230, 128), [thing]), "tile=128")
            assert boxes(found) == [tuple(map(float, thing.box))], left


@pytest.mark.parametrize("query", ["tile=auto", "tile=900", "tile=8192", "tile=auto&tile_overlap=0.5"])
async def test_one_tile_changes_nothing(serve: Serve, query: str) -> None:
    """`auto`: the canvas has more than half the size of the image; else: the tile covers all of it."""
    size = (300, 240) if "auto" in query else (900, 700)
    image = draw(size, [Thing((20, 20, 220, 200)), Thing((250, 30, 290, 90), 2)])
    async with serve(Looking()) as served:
        plain = await answer(served, image, "")
        before = len(served.detector.reached)
        tiled = await answer(served, image, query)
        assert len(served.detector.reached) == before + 1
        assert served.detector.reached[0] == served.detector.reached[1]
    assert plain["boxes"] != []
    assert lasting(tiled) == lasting(plain)


async def test_options_hold_for_the_merged_answer(serve: Serve) -> None:
    size = (900, 700)
    things = [Thing(thing.box, 1 + index % 2, 0.3 + index / 400) for index, thing in enumerate(grid(size))]
    image = draw(size, things)
    async with serve(Looking()) as served:
        everything = await answer(served, image, "tile=128&score_threshold=0&max_detections=1000")
        for most in (1, 7, 60):
            few = await answer(served, image, f"tile=128&score_threshold=0&max_detections={most}")
            assert few["boxes"] == everything["boxes"][:most]
        sure = await answer(served, image, "tile=128&score_threshold=0.6&max_detections=1000")
        discs = await answer(served, image, "tile=128&score_threshold=0&max_detections=1000&classes=disc")
        halves = await answer(
            served, image, "tile=128&score_threshold=0&max_detections=1000&normalized=true&box_format=xywh"
        )
    assert len(everything["boxes"]) == len(things)
    assert everything["scores"] == sorted(everything["scores"], reverse=True)
    assert len(sure["boxes"]) == sum(thing.score >= 0.6 for thing in things_in_order(things))
    assert set(discs["labels"]) == {2}
    assert len(discs["boxes"]) == len(things) // 2
    x1, y1, x2, y2 = everything["boxes"][0]
    assert halves["boxes"][0] == pytest.approx(
        [x1 / 900, y1 / 700, (x2 - x1) / 900, (y2 - y1) / 700], abs=1e-6
    )


def things_in_order(things: Sequence[Thing]) -> list[Thing]:
    """With the scores as a drawing can hold them."""
    return [Thing(thing.box, thing.label, round(thing.score * 250) / 250) for thing in things]


async def test_the_drawing_and_the_exports_have_the_merged_answer(serve: Serve) -> None:
    image = draw((900, 700), grid((900, 700))[:20])
    async with serve(Looking()) as served:
        coco = await answer(served, image, "tile=auto&format=coco")
        drawn = await detect(served, image, "tile=auto&format=png")
    assert len(coco["annotations"]) == 20
    assert pillow.open(io.BytesIO(drawn.content)).size == (900, 700)


async def test_the_other_routes_with_these_options_tile_too(serve: Serve) -> None:
    small = draw((900, 700), grid((900, 700))[:20])
    whole = draw((100, 80), [Thing((10, 10, 60, 60))])
    async with serve(Looking()) as served:
        plain = await answer(served, small, "tile=auto")
        files = [("image", small), ("image", whole), ("image", b"no image")]
        batch = await served.client.post("/detect/batch?tile=auto", files=files)
        one, two, three = batch.json()["results"]
        body = {
            "instances": [{"b64": base64.b64encode(small).decode()}],
            "parameters": {"tile": "auto"},
        }
        kserve = await served.client.post("/v1/models/fake:predict", json=body)
    assert lasting(one) == lasting(plain)
    assert len(two["boxes"]) == 1
    assert three["error"]["code"] == "invalid_image"
    assert kserve.status_code == 200, kserve.text
    assert kserve.json()["predictions"][0]["boxes"] == plain["boxes"]


async def test_the_service_answers_as_the_detector_asked_in_this_process() -> None:
    """With a real network: N jobs through the queue are the same as a loop over the tiles."""
    detector = random_detector()
    noise = np.random.default_rng(5).integers(0, 256, (500, 700, 3), np.uint8)
    file = io.BytesIO()
    pillow.fromarray(noise).save(file, "PNG")
    image = Image(noise, "PNG")
    options = Options(0.2, 0.5, 50)
    here = detect_tiled(detector, image, options, Tiling(), batch=3)
    query = "score_threshold=0.2&nms_threshold=0.5&max_detections=50"
    app = create_app(Settings(), detector)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=60)
    async with app.router.lifespan_context(app), client:
        await eventually(lambda: app.state.service.state == "ok", "the service is ready", 60)
        there, plain = [
            (await client.post(f"/detect?{query}{more}", content=file.getvalue(), headers=PNG)).json()
            for more in ("&tile=auto", "")
        ]
    assert len(here) > 10
    assert np.array(there["boxes"]) == pytest.approx(here.boxes, abs=0.05)
    assert there["labels"] == here.labels.tolist()
    assert there["boxes"] != plain["boxes"]
    [alone] = detector.detect([Job(detector.prepare(image), options)])
    untiled = detect_tiled(detector, image, options, Tiling(1000))
    assert (untiled.boxes == alone.boxes).all()
    assert (untiled.scores == alone.scores).all()


# what it costs, and what is refused


async def test_tiles_fill_batches_and_few_wait_at_once(serve: Serve) -> None:
    image = draw((900, 700), grid((900, 700))[:5])
    async with serve(Looking(best_batch=4, seconds=0.03)) as served:
        served.detector.free.clear()
        asked = asyncio.create_task(detect(served, image, "tile=128"))
        service = served.app.state.service
        await eventually(lambda: len(served.detector.batches) == 1, "the first batch runs")
        await eventually(lambda: service.queue_depth + len(served.detector.batches[0]) == 9, "tiles wait")
        held = await served.metric("rcnn_queue_bytes")
        waiting = await served.metric("rcnn_in_flight")
        served.detector.free.set()
        assert (await asked).status_code == 200
        sizes = [len(batch) for batch in served.detector.batches]
        tiles = tiles_of((900, 700), Tiling(128), SIGHT)
        assert sum(sizes) == len(tiles) + 1
        assert max(sizes) == 4
        assert len(sizes) <= len(tiles) / 2
        assert len({job.canvas.key for batch in served.detector.batches for job in batch}) == 2
        whole, tile = 128 * 192 * 12, 128 * 128 * 12
        assert held == len(image) + 900 * 700 * 3 + whole + 8 * tile
        assert waiting == 1
        assert await served.metric("rcnn_stage_duration_seconds_count", stage="decode") == 1
        assert await served.metric("rcnn_detections_per_image_count") == 1
        assert await served.metric("rcnn_in_flight") == await served.metric("rcnn_queue_bytes") == 0


async def test_too_many_tiles_are_refused_with_what_to_do(serve: Serve) -> None:
    image = draw((900, 700), [Thing((10, 10, 20, 20))])
    async with serve(Looking()) as served:
        refused = await detect(served, image, "tile=64")
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")
        text = refused.json()["detail"]
        assert "at most 64 may" in text
        assert served.detector.batches == []
        side = int(re.search(r"side of (\d+)", text)[1])  # type: ignore[index]  # it is there
        assert (await detect(served, image, f"tile={side}")).status_code == 200
        assert len(served.detector.reached) <= 65
        assert (await detect(served, image, f"tile={side - 1}")).status_code == 422
        assert boxes(await answer(served, image, "tile=auto")) == []  # larger tiles, which see less
        assert len(served.detector.reached) <= 2 * 65


@pytest.mark.parametrize(
    "query", ["tile=63", "tile=8193", "tile=all", "tile=", "tile=128.5", "tile=auto&tile=auto"]
)
async def test_a_tile_out_of_range_is_refused_in_one_sentence(served: Served, query: str) -> None:
    response = await detect(served, b"", query)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
    if query.count("tile") == 1:
        assert response.json()["detail"].count("must be auto or a whole number from 64 to 8192") == 1


@pytest.mark.parametrize("overlap", ["-0.1", "0.6", "nan", "x"])
async def test_an_overlap_out_of_range_is_refused(served: Served, overlap: str) -> None:
    response = await detect(served, b"", f"tile=auto&tile_overlap={overlap}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")


async def test_tiles_take_places_in_the_queue(serve: Serve) -> None:
    """Beside another request 42 tiles find no room among 20; alone they are answered, like any request."""
    image, small = draw((900, 700), [Thing((10, 10, 20, 20))]), draw((64, 48), [])
    async with serve(Looking(), max_queue=20) as served:
        served.detector.free.clear()
        first = asyncio.create_task(detect(served, small, ""))
        await eventually(lambda: len(served.detector.batches) == 1, "the device is busy")
        refused = await detect(served, image, "tile=128")
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert "places more in the queue, 18 are free" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        served.detector.free.set()
        assert (await first).status_code == 200
        assert boxes(await answer(served, image, "tile=128")) == [(10.0, 10.0, 20.0, 20.0)]
        assert await served.metric("rcnn_in_flight") == 0


def test_the_predicted_wait_counts_the_tiles_and_falls_with_each() -> None:
    admission = Admission(100, 1000, clock=lambda: 0.0)
    admission.observe(1, 1.0)
    other = admission.admit(0, LATE)
    permit = admission.admit(10, deadline=20.0)
    with pytest.raises(Overloaded, match="too many for the request's time"):
        permit.grow(5, places=30)
    assert (admission.bytes, admission.predicted_wait) == (10, 2.0)
    permit.grow(5, places=10)
    assert (admission.depth, admission.bytes, admission.predicted_wait) == (2, 15, 12.0)
    with pytest.raises(Overloaded):
        admission.admit(0, deadline=10.0)
    for _ in range(20):
        permit.release_slot()
    assert admission.predicted_wait == 2.0  # the last place goes with the permit
    permit.release()
    permit.release_slot()
    other.release()
    assert (admission.depth, admission.bytes, admission.predicted_wait) == (0, 0, 0.0)


async def test_who_waits_at_the_door_comes_in_once_enough_tiles_are_done() -> None:
    admission = Admission(5, 1000)
    permit = admission.admit(0, LATE)
    permit.grow(0, places=7)
    waiting = asyncio.ensure_future(admission.wait_for_capacity(seconds=60))
    for _ in range(3):
        permit.release_slot()
        await asyncio.sleep(0)
    assert not waiting.done()
    permit.release_slot()
    await asyncio.wait_for(waiting, 20)


# how it ends


async def started(served: Served, query: str) -> AsgiRequest:
    """A request with tiles whose first batch is on the device."""
    caller = AsgiRequest(served.app, f"/detect?{query}", PNG)
    caller.send(draw((900, 700), grid((900, 700))[:5]))
    service = served.app.state.service
    await eventually(lambda: service.queue_depth > 3 and len(served.detector.batches) == 1, "tiles wait")
    return caller


async def nothing_left(served: Served) -> None:
    assert served.app.state.service.queue_depth == 0
    assert await served.metric("rcnn_in_flight") == await served.metric("rcnn_queue_bytes") == 0


async def test_a_caller_who_leaves_takes_all_tiles_along(serve: Serve) -> None:
    async with serve(Looking(best_batch=4)) as served:
        served.detector.free.clear()
        caller = await started(served, "tile=128")
        caller.leave()
        await caller.ended()
        await nothing_left(served)
        assert await served.metric("rcnn_cancelled_total") == 1
        served.detector.free.set()
        assert (await detect(served, draw((64, 48), []), "")).status_code == 200
        assert len(served.detector.reached) <= 4 + 1  # what was on the device, and the second request
        assert await served.metric("rcnn_requests_total", route="/detect", status="499") == 1


async def test_time_that_runs_out_is_one_504(serve: Serve) -> None:
    async with serve(Looking(best_batch=4)) as served:
        served.detector.free.clear()
        caller = await started(served, "tile=128&timeout_ms=4000")
        await caller.answered()
        assert (caller.status, caller.problem["code"]) == (504, "deadline_exceeded")
        await nothing_left(served)
        assert await served.metric("rcnn_deadline_exceeded_total") == 1
        assert await served.metric("rcnn_rejected_total", code="deadline_exceeded") == 1
        assert await served.metric("rcnn_cancelled_total") == 0


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(RuntimeError("SECRET"), 500, "internal"), (MemoryError("full"), 413, "image_too_large")],
)
async def test_a_tile_that_fails_fails_its_request_once_and_no_other(
    serve: Serve, error: Exception, status: int, code: str
) -> None:
    def poison(job: Any) -> Exception | None:
        bad = job.canvas.image_size == (128, 128) and any(thing.label == 4 for thing in job.canvas.things)
        return error if bad else None

    things = [*grid((900, 700))[:20], Thing((500, 300, 510, 310), 4)]
    async with serve(Looking(poison=poison, best_batch=4), max_queue=200) as served:
        good = asyncio.create_task(detect(served, draw((900, 700), things[:20]), "tile=128"))
        bad = await detect(served, draw((900, 700), things), "tile=128")
        assert (bad.status_code, bad.json()["code"]) == (status, code)
        assert "SECRET" not in bad.text
        assert len((await good).json()["boxes"]) == 20
        await nothing_left(served)
        assert await served.metric("rcnn_rejected_total", code=code) == 1
        assert await served.metric("rcnn_cancelled_total") == 0


# geometry


def test_tiles_cover_the_image_alike_and_overlap() -> None:
    dice = random.Random(7)  # noqa: S311  # sizes, not secrets
    for _ in range(400):
        size = dice.randint(1, 5000), dice.randint(1, 5000)
        side = dice.choice([None, dice.randint(64, 3000)])
        tiling = Tiling(side, dice.uniform(0, 0.5), dice.randint(1, 80))
        try:
            tiles = tiles_of(size, tiling, SIGHT)
        except TooManyTiles:
            assert tiling.side is not None
            continue
        assert len(tiles) <= tiling.most
        if not tiles:
            continue
        assert len({(tile.width, tile.height) for tile in tiles}) == 1
        for axis, length in enumerate(size):
            starts = sorted({tile.corners[axis] for tile in tiles})
            length_of_tile = tiles[0].corners[axis + 2] - tiles[0].corners[axis]
            assert (starts[0], starts[-1] + length_of_tile) == (0, length)
            for start, following in itertools.pairwise(starts):
                shared = start + length_of_tile - following
                assert shared >= math.floor(tiling.overlap * length_of_tile) - 1


def test_auto_cuts_only_where_the_network_would_see_too_little() -> None:
    coco = ResizeLimits(800, 1333)
    assert tiles_of((640, 480), Tiling(), coco) == ()
    assert tiles_of((1920, 1080), Tiling(), coco) == ()
    twelve = tiles_of((4000, 3000), Tiling(), coco)
    assert (len(twelve), twelve[0].width) == (30, 800)  # every pixel is seen
    assert len(tiles_of((12_000, 4000), Tiling(), coco)) <= MOST_TILES
    assert tiles_of((12_000, 4000), Tiling(most=1), coco) == ()


def simple(found: Detections) -> list[tuple[Any, ...]]:
    return [(*box, label) for box, label in zip(found.boxes.tolist(), found.labels.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (Options(0, 0.5, 9), [1, 2]),
        (Options(0, 0.5, 9, class_agnostic=True), [1]),
        (Options(0, 0.9, 9), [1, 1, 2]),
        (Options(0, 0.5, 1), [1]),
    ],
)
def test_nms_crosses_tiles_with_the_requests_own_threshold(options: Options, kept: list[int]) -> None:
    tiles = tiles_of((200, 100), Tiling(128, 0.4), SIGHT)
    assert [tile.left for tile in tiles] == [0, 72]
    left = detections([Thing((80, 30, 100, 50), 1, 0.9)])
    right = detections([Thing((10, 30, 30, 50), 1, 0.8), Thing((8, 30, 28, 50), 2, 0.7)])
    found = merge(Detections.empty(), [left, right], tiles, options)
    assert found.labels.tolist() == kept
    assert simple(found)[0] == (80.0, 30.0, 100.0, 50.0, 1)


def test_no_tiles_detections_are_none() -> None:
    tiles = tiles_of((200, 100), Tiling(128, 0.4), SIGHT)
    found = merge(Detections.empty(), [Detections.empty()] * 2, tiles, Options(0, 0.5, 9))
    assert len(found) == 0
