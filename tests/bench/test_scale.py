"""What grows in the benchmarks of scale: images, objects, tiles, copies of a model."""

import io
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from bench.scale import many_connections, one_connection
from models.tiling.tiles import ResizeLimits, Tiling, tiles_of
from models.zoo.catalogue import find_card


def test_images_have_the_pixels_and_no_more_than_the_service_allows() -> None:
    small, large = one_connection.image_sizes([0.3, 1])
    sizes = [PillowImage.open(io.BytesIO(case.image)).size for case in (small, large)]
    assert [round(width * height / 1e6, 1) for width, height in sizes] == [0.3, 1.0]
    assert all(
        width * height <= case.row["point"] * 1e6
        for (width, height), case in zip(sizes, (small, large), strict=True)
    )


def test_a_crowd_has_as_many_scenes_as_its_objects_need() -> None:
    assert len(one_connection.crowd(0)) < len(one_connection.crowd(10)) < len(one_connection.crowd(100))


@pytest.mark.parametrize("count", one_connection.TILES[1:])
def test_the_side_of_tiles_cuts_the_image_into_so_many(count: int) -> None:
    [case] = one_connection.tiles([count])
    side, limits = case.row["side"], ResizeLimits(320, 576)
    size = (one_connection.TILED_SIDE,) * 2
    assert len(tiles_of(size, Tiling(side), limits)) == count
    assert case.path == f"/detect?tile={side}"


def test_a_copy_of_a_model_has_its_weights_under_another_name(tmp_path: Path) -> None:
    copy, card = (
        find_card(str(name), None) for name in (many_connections.copy_card("shapes", 3, tmp_path), "shapes")
    )
    assert (copy.name, copy.sha256, copy.labels) == ("shapes-3", card.sha256, card.labels)
    assert copy.weights_file is not None
    assert copy.weights_file.is_file()
