"""Growth of memory by hand, the images' sizes, and the cards."""

import itertools
from pathlib import Path

import pytest

from bench import memory
from bench.harness import cards
from bench.harness.pictures import SHAPES
from bench.memory import Sample
from models.zoo.catalogue import find_card


def test_the_images_have_many_sizes_one_of_them_12_megapixels() -> None:
    sizes = memory.sizes(40)
    assert sizes == memory.sizes(40)
    assert len(set(sizes)) >= 38
    assert set(SHAPES.values()) <= set(sizes)
    assert max(width * height for width, height in sizes) == 12_000_000


@pytest.mark.parametrize(
    ("resident", "slope", "grown", "text"),
    [  # caches that fill in the first half; then a leak of 10 MiB in 500 requests
        (
            (500, 900, 1000, 1000, 1001, 1000, 999),
            -0.8,
            -1.2,
            "-0.8 MiB per 1000 requests, -1 MiB in all: steady",
        ),
        (
            (970, 980, 990, 1000, 1010, 1020, 1030),
            20,
            30,
            "+20.0 MiB per 1000 requests, +30 MiB in all: IT GROWS",
        ),
    ],
)
def test_growth_is_that_of_the_second_half(
    resident: tuple[float, ...], slope: float, grown: float, text: str
) -> None:
    counts = itertools.count(500, 500)
    growth = memory.growth([Sample("a", "ours", next(counts), one, 0) for one in resident])
    assert growth["mebibytes_per_1000"] == pytest.approx(slope)
    assert growth["grown_mebibytes"] == pytest.approx(grown)
    assert memory.describe_growth(growth) == f"second half: {text}"


def test_a_card_is_found_by_name_and_the_heavy_one_is_written(tmp_path: Path) -> None:
    assert cards.find("shapes", tmp_path) == "shapes"
    heavy = find_card(cards.find("heavy", tmp_path), None)
    assert (heavy.architecture, heavy.min_size, len(heavy.labels)) == ("resnet50_fpn", 800, 91)
