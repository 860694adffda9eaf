"""`rcnn bench lineage`: the times of the three methods, and what it refuses."""

import sys
from itertools import count
from pathlib import Path

import pytest
from PIL import Image as pillow

from models.images.decoder import Image
from models.lineage import timing
from tests.support.rcnn import Ran, rcnn

pytestmark = pytest.mark.network


def lineage(*arguments: object) -> Ran:
    return rcnn("bench", "lineage", *arguments)


@pytest.fixture
def folder(tmp_path: Path, image: Image) -> Path:
    for name in ("a.png", "b.png"):
        pillow.fromarray(image.pixels).save(tmp_path / name)
    return tmp_path


@pytest.mark.slow
def test_each_method_is_slower_than_its_successor(folder: Path) -> None:
    ran = lineage("--images", folder, "--proposals", 60, "--crops", 16, "--json")
    assert ran.code == 0, ran.err
    times = ran.json
    assert (times["images"], times["searched"], times["crops"]) == (2, 60, 16)
    assert times["ratios"]["rcnn"] > times["ratios"]["fast_rcnn"]
    assert times["ratios"]["faster_rcnn"] == 1
    assert (
        times["rcnn"]["proposals"] == times["fast_rcnn"]["proposals"] > times["faster_rcnn"]["proposals"] > 0
    )
    assert times["rcnn"]["network"] > times["fast_rcnn"]["network"]


def test_the_table_stands_beside_the_published_times() -> None:
    ran = lineage("--count", 1, "--proposals", 20, "--crops", 4)
    assert ran.code == 0, ran.err
    rows = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in ran.out.splitlines() if "│" in line}
    published = {name: (cells[-2].strip(), cells[-1].strip()) for name, cells in rows.items()}
    assert published == {
        "R-CNN": ("47 +", "237.4"),
        "Fast R-CNN": ("2", "9.2"),
        "Faster R-CNN": ("0.2", "1.0"),
    }
    assert "timed on 4 of them and scaled up to all" in ran.out
    assert "Weights are random" in ran.out


def test_rcnns_time_is_scaled_from_its_sample(monkeypatch: pytest.MonkeyPatch, image: Image) -> None:
    """By a clock on which each look takes a second."""
    times = timing.time_lineage([image], timing.Plan(proposals=40, crops=8, device="cpu"))
    ticks = count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    [one] = times
    assert (one.searched, one.crops) == (40, 8)
    assert one.rcnn == timing.Seconds(proposals=1, network=5)
    assert one.fast_rcnn == timing.Seconds(proposals=1, network=1)
    assert one.faster_rcnn == timing.Seconds(proposals=1, network=2)


@pytest.mark.parametrize("module", ["cv2", "cv2.ximgproc"])
def test_without_opencvs_contrib_part_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    for name in [name for name in sys.modules if name.startswith(module)] or [module]:
        monkeypatch.setitem(sys.modules, name, None)
    ran = lineage("--count", 1)
    assert ran.code == 1
    assert "pip install 'rcnn-serve[lineage]'" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--architecture", "resnet9000"],
            "--architecture: unknown architecture 'resnet9000'; choose one of",
        ),
        (["--device", "cuda:99"], "--device: device 'cuda:99' does not exist"),
        (["--images", "EMPTY"], "no image in"),
        (["--images", "missing"], "missing"),
        (["--crops", "0"], "--crops"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    ran = lineage(*(str(tmp_path) if each == "EMPTY" else each for each in arguments))
    assert ran.code == 2
    assert message in ran.err


def test_a_damaged_image_is_named(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"no image")
    ran = lineage("--images", folder)
    assert ran.code == 1
    assert "a.png: this is text, not an image" in ran.err
