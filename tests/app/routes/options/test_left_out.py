"""min_area and roi leave out boxes after NMS and before max_detections; with tiles, of the merged result."""

import base64
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as pillow

from app.main import create_app
from app.settings.settings import Settings
from models.detections import Detections
from models.options import Options
from models.regions import Regions
from models.tiling.tiles import Tile, merge
from tests.support.fakes import picture
from tests.support.served import Served, eventually

QUERY = "score_threshold=0.05"
EVERYTHING = "max_detections=1000"
LIMIT = 3


def noise(width: int, height: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    pillow.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """The app with a real network, which sees images at another size than their own."""
    from tests.support.data.networks import random_detector

    app = create_app(Settings(max_batch=4), random_detector())
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client,
    ):
        await eventually(lambda: app.state.service.state == "ok", "the service is ready", 60)
        yield client


async def detect(client: httpx.AsyncClient, query: str, image: bytes) -> dict[str, Any]:
    headers = {"Content-Type": "image/png"}
    response = await client.post(f"/detect?{QUERY}&{query}", content=image, headers=headers)
    assert response.status_code == 200, response.text
    return dict(response.json())


def areas(answer: dict[str, Any]) -> np.ndarray:
    boxes = np.array(answer["boxes"])
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


@pytest.mark.parametrize("tiles", ["", "tile=128"])
async def test_it_keeps_the_large_boxes_of_the_same_answer(client: httpx.AsyncClient, tiles: str) -> None:
    image = noise(300, 200)
    everything = await detect(client, f"{tiles}&{EVERYTHING}", image)
    area = float(np.sort(areas(everything))[len(everything["boxes"]) // 2 :][:2].mean())  # between two
    large = areas(everything) >= area
    assert 0 < LIMIT < large.sum() < len(large)
    kept = await detect(client, f"{tiles}&{EVERYTHING}&min_area={area}", image)
    assert kept["boxes"] == [box for box, keep in zip(everything["boxes"], large, strict=True) if keep]
    best = await detect(client, f"{tiles}&min_area={area}&max_detections={LIMIT}", image)
    assert best["boxes"] == kept["boxes"][:LIMIT]
    zero = await detect(client, f"{tiles}&{EVERYTHING}&min_area=0", image)
    assert zero["boxes"] == everything["boxes"]


REGIONS = ("0,0,150,120", "150,60,280,60,215,190")  # a rectangle and a triangle


def in_regions(answer: dict[str, Any]) -> list[bool]:
    """Whether each box's centre is in the rectangle, or on the inner side of the triangle's three edges."""
    boxes = np.array(answer["boxes"])
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).T
    triangle = (y > 60) & (y < 60 + (x - 150) * 2) & (y < 60 + (280 - x) * 2)
    inside: list[bool] = (((x < 150) & (y < 120)) | triangle).tolist()
    return inside


@pytest.mark.parametrize("tiles", ["", "tile=128"])
async def test_it_keeps_boxes_with_their_centre_in_a_region(client: httpx.AsyncClient, tiles: str) -> None:
    image = noise(300, 200)
    everything = await detect(client, f"{tiles}&{EVERYTHING}", image)
    inside = in_regions(everything)
    assert 0 < LIMIT < sum(inside) < len(inside)
    rois = "&".join(f"roi={region}" for region in REGIONS)
    kept = await detect(client, f"{tiles}&{EVERYTHING}&{rois}", image)
    assert kept["boxes"] == [box for box, keep in zip(everything["boxes"], inside, strict=True) if keep]
    best = await detect(client, f"{tiles}&{rois}&max_detections={LIMIT}", image)
    assert best["boxes"] == kept["boxes"][:LIMIT]
    fractions = "roi=0,0,0.5,0.6&roi=0.5,0.3,0.93333333,0.3,0.71666667,0.95&normalized=true"
    shares = await detect(client, f"{tiles}&{EVERYTHING}&{fractions}", image)
    assert shares["scores"] == kept["scores"]
    body = {"image": base64.b64encode(image).decode(), "max_detections": 1000, "score_threshold": 0.05}
    lists = {"roi": [[0, 0, 150, 120], [150, 60, 280, 60, 215, 190]]}
    answer = await client.post(f"/detect?{tiles}", json=body | lists)
    assert answer.json()["scores"] == kept["scores"]


def test_neighbouring_regions_share_no_box() -> None:
    halves = Regions(((0.0, 0.0, 50.0, 100.0),)), Regions(((50.0, 0.0, 100.0, 100.0),))
    boxes = np.array([[40, 40, 60, 60], [0, 0, 100, 100], [10, 10, 20, 20]], np.float32)
    masks = [half.contain(boxes, (100, 100)).tolist() for half in halves]
    assert masks == [[False, False, True], [True, True, False]]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("roi=", "valid number"),
        ("roi=1,2,3", "must be x1,y1,x2,y2 of two corners"),
        ("roi=1,2,3,4,5", "must be x1,y1,x2,y2 of two corners"),
        ("roi=10,10,5,20", "x1 must be less than x2"),
        ("roi=-1,0,5,20", "greater than or equal to 0"),
        ("roi=0,0,nan,20", "finite"),
        ("roi=0,0,a,20", "valid number"),
        ("roi=" + ",".join(["1"] * 514), "at most 512 numbers"),
        ("&".join(["roi=0,0,9,9"] * 33), "at most 32 items"),
        ("normalized=true&roi=0,0,320,240", "from 0 to 1"),
    ],
)
async def test_a_wrong_region_is_refused_by_name(served: Served, query: str, reason: str) -> None:
    headers = {"Content-Type": "image/png"}
    response = await served.client.post(f"/detect?{query}", content=picture(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
    assert response.json()["detail"].startswith("roi")
    assert reason in response.json()["detail"]


async def test_it_is_the_same_in_a_batch(client: httpx.AsyncClient) -> None:
    images = [noise(width, 200) for width in (290, 295, 300)]
    query = f"{QUERY}&min_area=400"
    files = [("image", image) for image in images]
    results = (await client.post(f"/detect/batch?{query}", files=files)).json()["results"]
    alone = [await detect(client, "min_area=400", image) for image in images]
    for one, other in zip(results, alone, strict=True):
        assert one["labels"] == other["labels"]
        np.testing.assert_allclose(one["boxes"], other["boxes"], atol=0.01)


def test_a_small_box_suppresses_others_before_it_is_left_out() -> None:
    """After NMS: a tile's small box with the best score drops the large one that overlaps it."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 12, 12], [30, 30, 50, 50]], np.float32)
    whole = Detections(boxes, np.ones(3, np.int64), np.array([0.9, 0.8, 0.7], np.float32))
    part = Detections.empty()
    options = Options(0.1, 0.5, 10)
    tiles = (Tile(0, 0, 64, 64),)
    assert len(merge(whole, [part], tiles, options)) == 2
    large = merge(whole, [part], tiles, replace(options, min_area=101.0))
    assert large.boxes.tolist() == [[30, 30, 50, 50]]
    assert len(merge(whole, [part], tiles, replace(options, min_area=100.0))) == 2


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "big", ""])
async def test_a_wrong_area_is_refused_by_name(served: Served, value: str) -> None:
    headers = {"Content-Type": "image/png"}
    response = await served.client.post(f"/detect?min_area={value}", content=picture(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
    assert f"min_area={value!r}" in response.json()["detail"]
