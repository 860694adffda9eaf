"""The benchmark of the engines: its arithmetic by hand, and one real run of the smallest kind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.harness import roofline
from models.networks import build_network

ROOT = Path(__file__).parents[2]


def test_arithmetic_is_counted_as_by_hand() -> None:
    """VGG-16's first convolution alone, 3x3 from 3 to 64 channels; the head grows with the proposals."""
    network = build_network("vgg16", 3)
    once = roofline.count(network, (64, 96), 10)
    first = 2 * 9 * 3 * 64 * 64 * 96
    layers = ((64, 64, 1), (64, 128, 4), (128, 128, 4), (128, 256, 16), (256, 256, 16), (256, 256, 16))
    layers += ((256, 512, 64), (512, 512, 64), (512, 512, 64), *((512, 512, 256),) * 3)
    backbone = first + sum(2 * 9 * a * b * 64 * 96 // share for a, b, share in layers)
    positions, anchors = 4 * 6, 9
    rpn = positions * (2 * 9 * 512 * 512 + 2 * 512 * 5 * anchors)
    head = 10 * 2 * (512 * 49 * 4096 + 4096 * 4096 + 4096 * 5 * 3)
    assert once.dense == pytest.approx((backbone + rpn) / 1e9)
    assert once.head == pytest.approx(head / 1e9)
    assert roofline.count(network, (64, 96), 20).head == pytest.approx(2 * once.head)
    assert next(network.parameters()).device.type == "cpu"  # counting leaves the network as it is


def test_shares_are_of_the_best_kernel_of_the_engines_own_numbers() -> None:
    runs = [
        {"fp32": {"a": 50.0, "b": 100.0}, "int8": {"a": 400.0}},
        {"fp32": {"a": 60.0, "b": 90.0}, "int8": {"a": 390.0}},
    ]
    peaks = roofline.best(runs)
    assert peaks == {"fp32": {"a": 60.0, "b": 100.0}, "int8": {"a": 400.0}}
    work = roofline.Work(dense=8.0, head=2.0)
    [whole] = roofline.shares(work, peaks, "torchvision eager", {"decode": 3.0, "image": 200.0})
    assert (whole["part"], whole["ms_at_peak"], whole["share_of_peak"]) == ("image", 100.0, 0.5)
    dense, head = roofline.shares(work, peaks, "openvino int8", {"dense": 40.0, "head": 50.0})
    assert (dense["ms_at_peak"], dense["share_of_peak"]) == (20.0, 0.5)
    assert (head["ms_at_peak"], head["share_of_peak"]) == (5.0, 0.1)


def test_quick_run_of_the_engines(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [
        sys.executable,
        "-m",
        "bench.engine",
        "--models",
        "shapes",
        "--rounds",
        "1",
        "--json",
        str(out),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    engines = ["torchvision eager", "torch fp32", "openvino fp32", "openvino int8"]
    assert [row["engine"] for row in found["rows"]] == engines
    assert {kind: sorted(kernels) for kind, kernels in found["peaks_gflops"].items()} == {
        kind: ["OpenVINO convolution", "torch matmul"] for kind in ("fp32", "int8")
    }
    parts = [(row["engine"], row["part"]) for row in found["roofline"]]
    ours = [(engine, part) for engine in engines[1:] for part in ("dense", "head", "image")]
    assert parts == [("torchvision eager", "image"), *ours]
    assert all(row["share_of_peak"] > 0 for row in found["roofline"])
    assert "Measured peaks: fp32" in done.stdout
