"""Tiles cover the image alike and overlap; merging keeps each object once."""

import itertools
import math
import random

import pytest

from models.detections import Detections
from models.options import Options
from models.tiling.tiles import MOST_TILES, ResizeLimits, Tile, Tiling, TooManyTiles, merge, tiles_of
from tests.support.data.tiled_scenes import RESIZE, Shape, detections


def random_tiling(dice: random.Random) -> tuple[tuple[int, int], Tiling]:
    size = dice.randint(1, 5000), dice.randint(1, 5000)
    side = dice.choice([None, dice.randint(64, 3000)])
    return size, Tiling(side, dice.uniform(0, 0.5), dice.randint(1, 80))


def test_tiles_cover_the_image_alike_and_overlap() -> None:
    dice = random.Random(7)  # noqa: S311  # sizes, not secrets
    for _ in range(400):
        size, tiling = random_tiling(dice)
        try:
            tiles = tiles_of(size, tiling, RESIZE)
        except TooManyTiles:
            assert tiling.side is not None
            continue
        assert len(tiles) <= tiling.most
        assert len({(tile.width, tile.height) for tile in tiles}) <= 1
        for axis, length in enumerate(size if tiles else ()):
            check_axis(tiles, axis, length, tiling.overlap)


def check_axis(tiles: tuple[Tile, ...], axis: int, length: int, overlap: float) -> None:
    starts = sorted({tile.corners[axis] for tile in tiles})
    side = tiles[0].corners[axis + 2] - tiles[0].corners[axis]
    assert (starts[0], starts[-1] + side) == (0, length)
    for start, following in itertools.pairwise(starts):
        assert start + side - following >= math.floor(overlap * side) - 1


def test_auto_cuts_only_where_the_network_would_see_too_little() -> None:
    coco = ResizeLimits(800, 1333)
    assert tiles_of((640, 480), Tiling(), coco) == ()
    assert tiles_of((1920, 1080), Tiling(), coco) == ()
    twelve = tiles_of((4000, 3000), Tiling(), coco)
    assert (len(twelve), twelve[0].width) == (30, 800)  # every pixel is seen
    assert len(tiles_of((12_000, 4000), Tiling(), coco)) <= MOST_TILES
    assert tiles_of((12_000, 4000), Tiling(most=1), coco) == ()


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (Options(0, 0.5, 9), [1, 2]),
        (Options(0, 0.5, 9, class_agnostic=True), [1]),
        (Options(0, 0.9, 9), [1, 1, 2]),
        (Options(0, 0.5, 1), [1]),
    ],
)
def test_nms_crosses_tiles_with_the_requests_own_threshold(options: Options, labels: list[int]) -> None:
    tiles = tiles_of((200, 100), Tiling(128, 0.4), RESIZE)
    assert [tile.left for tile in tiles] == [0, 72]
    left = detections([Shape((80, 30, 100, 50), 1, 0.9)])
    right = detections([Shape((10, 30, 30, 50), 1, 0.8), Shape((8, 30, 28, 50), 2, 0.7)])
    merged = merge(Detections.empty(), [left, right], tiles, options)
    assert merged.labels.tolist() == labels
    assert merged.boxes[0].tolist() == [80.0, 30.0, 100.0, 50.0]


def test_tiles_without_detections_merge_to_none() -> None:
    tiles = tiles_of((200, 100), Tiling(128, 0.4), RESIZE)
    assert len(merge(Detections.empty(), [Detections.empty()] * 2, tiles, Options(0, 0.5, 9))) == 0


def test_a_box_that_an_inner_border_cuts_is_left_to_the_other_views() -> None:
    """TOUCHING is 2 px of these tiles of 128 px; the outer borders of the image cut nothing."""
    tiles = tiles_of((200, 200), Tiling(128, 0.4), RESIZE)
    assert [(tile.left, tile.top) for tile in tiles] == [(0, 0), (72, 0), (0, 72), (72, 72)]
    inner = {  # in pixels of the tile, for the tile of each corner of the image
        0: [(100, 40, 126, 60), (40, 100, 60, 126)],
        1: [(2, 40, 30, 60), (40, 100, 60, 126)],
        2: [(100, 40, 126, 60), (40, 2, 60, 30)],
        3: [(2, 40, 30, 60), (40, 2, 60, 30)],
    }
    kept = {
        0: [(0, 0, 20, 20), (100, 40, 125.9, 60)],
        1: [(100, 0, 128, 20), (2.1, 40, 30, 60)],
        2: [(0, 100, 20, 128), (40, 2.1, 60, 30)],
        3: [(100, 100, 128, 128), (2.1, 40, 30, 60)],
    }
    options = Options(0, 1, 99)
    for number in range(4):
        for boxes, expected in ((inner[number], 0), (kept[number], len(kept[number]))):
            parts = [Detections.empty()] * 4
            parts[number] = detections([Shape(box) for box in boxes])
            assert len(merge(Detections.empty(), parts, tiles, options)) == expected, (number, boxes)
