"""`RCNN_PRECISION=auto` on OpenVINO: the fastest proven precision, timed on this machine once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.detector import Detector, DetectorSpec, load_detector
from models.engines.openvino_engine import has_bf16
from models.zoo.catalogue import find_card

pytestmark = pytest.mark.network

CANDIDATES = {"fp32", "int8"} | ({"bf16"} if has_bf16() else set())


def load(cache: Path, model: object = "shapes", **more: Any) -> Detector:
    return load_detector(DetectorSpec(model=str(model), cache_dir=cache, device="cpu", **more))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Detector]:
    """A cache folder, and the bundled model that was loaded with it when it was empty."""
    cache = tmp_path_factory.mktemp("cache")
    return cache, load(cache)


@pytest.fixture
def cache(first: tuple[Path, Detector], tmp_path: Path) -> Path:
    """A copy of that folder."""
    return shutil.copytree(first[0], tmp_path / "cache")


def times(cache: Path) -> list[Path]:
    return sorted(cache.glob("openvino/*/precision-*.json"))


def rewrite(path: Path, **milliseconds: float) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "milliseconds": values["milliseconds"] | milliseconds}))


def test_the_fastest_proven_precision_serves_and_says_why(first: tuple[Path, Detector]) -> None:
    cache, detector = first
    chosen = detector.precision_choice
    assert set(chosen.milliseconds) == CANDIDATES
    assert detector.precision == chosen.precision
    assert chosen.milliseconds[chosen.precision] <= min(chosen.milliseconds.values()) * 1.1
    assert all(f"{name} {value:.1f}" in chosen.reason for name, value in chosen.milliseconds.items())
    [file] = times(cache)
    assert json.loads(file.read_text())["milliseconds"] == chosen.milliseconds


def test_the_times_are_cached_for_this_machine_and_number_of_threads(cache: Path) -> None:
    [file] = times(cache)
    rewrite(file, fp32=0.001)
    assert load(cache).precision == "fp32"
    load(cache, threads=1)
    assert len(times(cache)) == 2


def test_a_damaged_artefact_is_not_chosen_and_does_not_stop_the_start(cache: Path, tmp_path: Path) -> None:
    bundled = find_card("shapes", None)
    assert bundled.path is not None
    for source in bundled.path.parent.glob("shapes.*"):
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / source.name)
    card = tmp_path / "shapes.toml"
    [file] = times(cache)
    rewrite(file, int8=0.001)  # it was the fastest before
    (tmp_path / "shapes.int8-v1" / "dense.bin").write_bytes(b"damaged")
    detector = load(cache, card)
    assert detector.precision in CANDIDATES - {"int8"}
    assert "int8-v1 is damaged; quantize the model again" in detector.precision_choice.reason


def test_a_named_precision_is_taken_untimed(tmp_path: Path) -> None:
    detector = load(tmp_path, precision="fp32")
    assert (detector.precision, detector.precision_choice.reason) == ("fp32", "RCNN_PRECISION is fp32")
    assert times(tmp_path) == []
