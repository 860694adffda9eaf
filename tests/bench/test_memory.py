"""The benchmark of memory and start: its sizes, its slope by hand, and one real run of the smallest kind."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import memory
from bench.harness import cards
from bench.harness.load import Asker, Plan, Target
from bench.memory import Sample
from bench.mix import SHAPES
from models.zoo.catalogue import find_card
from tests.support.answering import OK, answering

ROOT = Path(__file__).parents[2]


def samples(*resident: float) -> list[Sample]:
    return [Sample(500 * (index + 1), mebibytes, 0) for index, mebibytes in enumerate(resident)]


def test_what_fills_in_the_first_half_is_no_growth() -> None:
    found = memory.growth(samples(500, 900, 1000, 1000, 1001, 1000, 999))
    assert found["mebibytes_per_1000"] == pytest.approx(-0.8)
    assert found["steady"] is True
    assert memory.verdict(found) == "second half: -0.8 MiB per 1000 requests, -1 MiB in all: steady"


def test_a_leak_in_the_second_half_is_growth() -> None:
    """10 MiB in 500 requests, on 1000 MiB: 30 MiB over the last four samples."""
    found = memory.growth(samples(970, 980, 990, 1000, 1010, 1020, 1030))
    assert found["mebibytes_per_1000"] == pytest.approx(20)
    assert found["grown_mebibytes"] == pytest.approx(30)
    assert found["steady"] is False
    assert memory.verdict(found).endswith("IT GROWS")


def test_the_images_have_many_sizes_one_of_them_12_megapixels() -> None:
    found = memory.sizes(40)
    assert found == memory.sizes(40)
    assert len(set(found)) >= 38
    assert set(SHAPES.values()) <= set(found)
    assert max(width * height for width, height in found) == 12_000_000


async def test_a_closed_loop_can_be_told_how_often_to_ask() -> None:
    async def at_once(number: int) -> bytes:
        await asyncio.sleep(0)
        return OK

    async with answering(at_once) as port:
        plan = Plan(connections=4, seconds=60, requests=30)
        tally = await Asker(Target(port), [b"image"], plan).run()
    assert tally.statuses == {200: 30}


def test_a_card_is_found_by_name_and_the_heavy_one_is_written(tmp_path: Path) -> None:
    assert cards.find("shapes", tmp_path) == "shapes"
    heavy = find_card(cards.find("heavy", tmp_path), None)
    assert (heavy.architecture, heavy.min_size, len(heavy.labels)) == ("resnet50_fpn", 800, 91)


def test_quick_run(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench.memory", "--requests", "20", "--every", "10", "--compare", "10"]
    command += ["--images", "5", "--starts", "1", "--threads", "1", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [one["requests"] for one in found["samples"]] == [10, 20]
    sizes = [(one["server"], one["engine"], one["requests"]) for one in found["sizes"]]
    assert sizes == [("rcnn-serve", "ours", 10), ("fastapi", "eager", 10), ("fastapi", "ours", 10)]
    everybody = [*found["samples"], *found["sizes"]]
    assert all(one["resident_mebibytes"] > 100 and one["errors"] == 0 for one in everybody)
    assert found["start_seconds"]["warm"] > 0
    assert "second half: " in done.stdout
