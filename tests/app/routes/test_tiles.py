"""Detection in tiles over HTTP: small objects found once and whole; one tile changes nothing; refusals."""

import base64
import io
import re
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image as pillow

from models.images.decoder import Image
from models.tiling.tiles import Tiling, tiles_of
from tests.support.data.tiled_scenes import (
    PNG,
    RESIZE,
    PixelDetector,
    Shape,
    ShapeCanvas,
    answer,
    boxes,
    detect,
    draw,
    grid,
)
from tests.support.served import Serve, Served


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from request to request."""
    return {key: value for key, value in result.items() if key not in ("timings_ms", "request_id")}


@pytest.mark.parametrize("query", ["tile=auto", "tile=128", "tile=150&tile_overlap=0.3", "tile=160"])
async def test_small_shapes_are_found_each_once_and_at_their_pixels(serve: Serve, query: str) -> None:
    size = (900, 700)
    shapes = grid(size)
    image = draw(size, shapes)
    async with serve(PixelDetector()) as served:
        assert boxes(await answer(served, image, "max_detections=1000")) == []
        found = await answer(served, image, f"{query}&max_detections=1000")
    assert boxes(found) == sorted(tuple(map(float, shape.box)) for shape in shapes)
    assert found["image"] == {"width": 900, "height": 700}


async def test_a_shape_cut_by_every_tile_is_found_whole_and_once(serve: Serve) -> None:
    large = Shape((100, 100, 800, 650), 2, 0.9)
    image = draw((900, 700), [large, Shape((300, 300, 310, 310))])
    async with serve(PixelDetector()) as served:
        found = await answer(served, image, "tile=auto")
        assert served.detector.prepared[1:] != [], "there were tiles"
    assert boxes(found) == [(100.0, 100.0, 800.0, 650.0), (300.0, 300.0, 310.0, 310.0)]
    assert found["scores"] == sorted(found["scores"], reverse=True)


async def test_a_shape_across_two_tiles_is_found_whole_at_any_position(serve: Serve) -> None:
    """It moves through the overlap: 20 px, where 26 overlap."""
    assert [tile.left for tile in tiles_of((230, 128), Tiling(128), RESIZE)] == [0, 102]
    async with serve(PixelDetector()) as served:
        for left in range(70, 140, 2):
            shape = Shape((left, 50, left + 20, 70))
            found = await answer(served, draw((230, 128), [shape]), "tile=128")
            assert boxes(found) == [tuple(map(float, shape.box))], left


@pytest.mark.parametrize("query", ["tile=auto", "tile=900", "tile=8192", "tile=auto&tile_overlap=0.5"])
async def test_one_tile_changes_nothing(serve: Serve, query: str) -> None:
    """`auto`: the canvas has more than half the size of the image; else: the tile covers all of it."""
    size = (300, 240) if "auto" in query else (900, 700)
    image = draw(size, [Shape((20, 20, 220, 200)), Shape((250, 30, 290, 90), 2)])
    async with serve(PixelDetector()) as served:
        plain = await answer(served, image, "")
        before = len(served.detector.reached)
        tiled = await answer(served, image, query)
        assert len(served.detector.reached) == before + 1
        assert served.detector.reached[0] == served.detector.reached[1]
    assert plain["boxes"] != []
    assert comparable(tiled) == comparable(plain)


async def test_options_hold_for_the_merged_answer(serve: Serve) -> None:
    size = (500, 400)
    shapes = [Shape(shape.box, 1 + index % 2, 0.3 + index / 200) for index, shape in enumerate(grid(size))]
    image, query = draw(size, shapes), "tile=128&score_threshold=0"
    async with serve(PixelDetector()) as served:
        everything = await answer(served, image, f"{query}&max_detections=1000")
        for limit in (1, 7, 30):
            few = await answer(served, image, f"{query}&max_detections={limit}")
            assert few["boxes"] == everything["boxes"][:limit]
        sure = await answer(served, image, "tile=128&score_threshold=0.5&max_detections=1000")
        discs = await answer(served, image, f"{query}&max_detections=1000&classes=disc")
        halves = await answer(served, image, f"{query}&normalized=true&box_format=xywh")
    assert len(everything["boxes"]) == len(shapes)
    assert everything["scores"] == sorted(everything["scores"], reverse=True)
    assert len(sure["boxes"]) == sum(score >= 0.5 for score in everything["scores"]) < len(shapes)
    assert set(discs["labels"]) == {2}
    assert len(discs["boxes"]) == len(shapes) // 2
    x1, y1, x2, y2 = everything["boxes"][0]
    expected = [x1 / 500, y1 / 400, (x2 - x1) / 500, (y2 - y1) / 400]
    assert halves["boxes"][0] == pytest.approx(expected, abs=1e-6)


class LeftEye(PixelDetector):
    """Sees what lies in the left half of its canvas."""

    def prepare(self, image: Image, size: int | None) -> ShapeCanvas:
        canvas = super().prepare(image, size)
        return replace(
            canvas, shapes=tuple(shape for shape in canvas.shapes if shape.box[2] <= image.width / 2)
        )


async def test_flip_merges_what_the_mirror_image_shows_in_the_same_batch(serve: Serve) -> None:
    shapes = [Shape((10, 20, 60, 80), 1, 0.5), Shape((230, 100, 290, 130), 2, 0.9)]
    image = draw((300, 240), shapes)
    async with serve(LeftEye()) as served:
        plain = await answer(served, image, "flip=false")
        assert boxes(plain) == [tuple(map(float, shapes[0].box))]
        flipped = await answer(served, image, "flip=true")
        [once, both] = served.detector.batches
        assert (len(once), len(both)) == (1, 2)
        best = await answer(served, image, "flip=true&max_detections=1")
        tiled = await answer(served, image, "flip=true&tile=200")
        assert len(served.detector.reached) == 1 + 2 + 2 + 2 * (
            1 + len(tiles_of((300, 240), Tiling(200), RESIZE))
        )
        wrong = await served.client.post("/detect", params={"flip": "perhaps"}, content=image, headers=PNG)
    assert boxes(flipped) == boxes(tiled) == [tuple(map(float, shape.box)) for shape in shapes]
    assert (flipped["labels"], best["labels"]) == ([2, 1], [2])
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_parameter")


async def test_the_drawing_and_the_exports_have_the_merged_answer(serve: Serve) -> None:
    image = draw((900, 700), grid((900, 700))[:20])
    async with serve(PixelDetector()) as served:
        coco = await answer(served, image, "tile=auto&format=coco")
        drawn = await detect(served, image, "tile=auto&format=png")
    assert len(coco["annotations"]) == 20
    assert pillow.open(io.BytesIO(drawn.content)).size == (900, 700)


async def test_the_other_routes_with_these_options_tile_too(serve: Serve) -> None:
    small = draw((900, 700), grid((900, 700))[:20])
    whole = draw((100, 80), [Shape((10, 10, 60, 60))])
    async with serve(PixelDetector(), max_queue=200) as served:
        plain = await answer(served, small, "tile=auto")
        files = [("image", small), ("image", whole), ("image", b"no image")]
        batch = await served.client.post("/detect/batch?tile=auto", files=files)
        one, two, three = batch.json()["results"]
        body = {
            "instances": [{"b64": base64.b64encode(small).decode()}],
            "parameters": {"tile": "auto"},
        }
        kserve = await served.client.post("/v1/models/fake:predict", json=body)
    assert comparable(one) == comparable(plain)
    assert len(two["boxes"]) == 1
    assert three["error"]["code"] == "invalid_image"
    assert kserve.status_code == 200, kserve.text
    assert kserve.json()["predictions"][0]["boxes"] == plain["boxes"]


async def test_too_many_tiles_are_refused_with_what_to_do(serve: Serve) -> None:
    image = draw((900, 700), [Shape((10, 10, 20, 20))])
    async with serve(PixelDetector()) as served:
        refused = await detect(served, image, "tile=64")
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")
        text = refused.json()["detail"]
        assert "at most 64 may" in text
        assert served.detector.batches == []
        side = int(re.search(r"side of (\d+)", text)[1])  # type: ignore[index]  # it is there
        assert (await detect(served, image, f"tile={side}")).status_code == 200
        assert len(served.detector.reached) <= 65
        assert (await detect(served, image, f"tile={side - 1}")).status_code == 422
        assert (await detect(served, image, "tile=auto")).status_code == 200  # larger tiles, not more
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
