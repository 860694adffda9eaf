"""Each family of benchmarks once, with the real service and load generator, as small as possible."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.harness.times import ServiceTimes, write_times

Run = Callable[..., tuple[dict[str, Any], str]]

pytestmark = pytest.mark.bench


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call a benchmark's main with its options: the JSON and what it printed."""

    def call(name: str, options: str) -> tuple[dict[str, Any], str]:
        out = tmp_path / "results.json"
        monkeypatch.setattr("sys.argv", [name, *options.split(), "--json", str(out)])
        assert not importlib.import_module(f"bench.{name}").main()
        results: dict[str, Any] = json.loads(out.read_text())
        assert {"cpu", "cores", "date", "torch"} <= set(results["machine"])
        return results, capsys.readouterr().out

    return call


def test_server(run: Run) -> None:
    results, text = run(
        "servers.__main__", "--quick --servers rcnn-serve triton --no-loop --seconds 0.5 --threads 1"
    )
    result, triton = results["loads"]["light"]
    assert triton["reason"].startswith("not measured: nvidia-pytriton")
    assert result["server"] == "rcnn-serve"
    assert set(result["loads"]) == {"1", "4", "1x"}
    for load in result["loads"].values():
        assert load["answered"] > 0
        assert load["errors"] == {}
        assert 0 < load["p50_ms"] <= load["p99_ms"] <= load["slowest_ms"]
    assert result["resident_mebibytes"] > 100
    assert "rcnn-serve" in text


def test_overload_with_a_stand_in_for_the_device(run: Run) -> None:
    options = "--stand-in --slower 0.5 --rounds 2 --seconds 0.5 --factors 1"
    results, text = run("overload", options)
    assert [list(loads) for loads in results["rounds"]] == [["8", "64", "1x"]] * 2
    for load in [load for loads in results["rounds"] for load in loads.values()]:
        assert load["answered"] > 0
        assert set(load["errors"]) <= {"429"}
        assert load["without_retry_after"] == 0
    assert "a stand-in for its device" in text


def test_fairness(run: Run) -> None:
    options = "--slow blood-cells --seconds 0.5 --rounds 1 --rate 4 --connections 2"
    results, text = run("several.fairness", options)
    assert list(results["results"]) == ["slow", "shapes", "shapes beside", "slow beside"]
    assert all(load["answered"] > 0 and load["errors"] == {} for load in results["results"].values())
    assert "p99 of shapes grows by" in text


def test_latency(run: Run) -> None:
    results, text = run("latency", "--rounds 1 --requests 2 --threads 1")
    rows = results["rows"]
    ways = [(row["way"], row["requests"]) for row in rows]
    assert ways == [("direct", 2), ("raw body", 2), ("multipart", 2)]
    for row in rows[1:]:
        assert set(row["stages_ms"]) == {"decode", "queue", "inference", "postprocess", "total"}
        assert 0 < row["stages_ms"]["total"] < row["p50_ms"]
    assert "outside" in text


def test_memory(run: Run) -> None:
    options = "--requests 10 --every 5 --compare 5 --images 5 --starts 0 --threads 1"
    results, text = run("memory", options)
    assert [one["requests"] for one in results["samples"]] == [5, 10]
    sizes = [(one["server"], one["engine"], one["requests"]) for one in results["sizes"]]
    assert sizes == [("rcnn-serve", "ours", 5), ("fastapi", "eager", 5), ("fastapi", "ours", 5)]
    samples = [*results["samples"], *results["sizes"]]
    assert all(one["resident_mebibytes"] > 100 and one["errors"] == 0 for one in samples)
    assert results["start_seconds"]["cold"] > 0
    assert "second half: " in text


def test_profile(run: Run) -> None:
    results, text = run("profile", "--seconds 1 --threads 1")
    functions = results["threads"]["device's thread"]["with_callees"]
    assert any("infer" in function for function in functions)
    assert "with callees" in text


def test_engine(run: Run) -> None:
    results, text = run("engine", "--models shapes --rounds 1 --exported")
    engines = ["torchvision eager", "torch fp32", "openvino fp32", "openvino int8"]
    exported = ["exported to ONNX Runtime", "exported to OpenVINO"]
    assert [row["engine"] for row in results["rows"]] == engines + exported
    kernels = {kind: sorted(each) for kind, each in results["peaks_gflops"].items()}
    assert kernels == {kind: ["OpenVINO convolution", "torch matmul"] for kind in ("fp32", "int8")}
    parts = [(row["engine"], row["part"]) for row in results["roofline"]]
    ours = [(engine, part) for engine in engines[1:] for part in ("dense", "head", "image")]
    assert parts == [("torchvision eager", "image"), *ours, *((name, "image") for name in exported)]
    assert all(row["share_of_peak"] > 0 for row in results["roofline"])
    assert "Measured peaks: fp32" in text


def test_gpu(run: Run) -> None:
    """On the CPU: it says nothing of a GPU but that the benchmark runs."""
    results, text = run("gpu.report", "--quick")
    ours = [f"ours, openvino fp32, {way}" for way in ("engine alone", "with upload")]
    theirs = ["eager", "eager, fp16", "compiled by eager, fp16"]
    names = [*ours, *(f"torchvision {name}" for name in theirs), "ONNX Runtime"]
    assert [(row["batch"], row["variant"]) for row in results["rows"]] == [(1, name) for name in names]
    for row in results["rows"]:
        assert row["images_per_second"] == pytest.approx(row["batch"] / row["ms"] * 1000)
        assert (row["operations"] > 0) == (row["variant"] != "ONNX Runtime")
        assert row["share_of_peak"] > 0 < row["share_of_bandwidth"]
    assert set(results["rows"][0]["stages_ms"]) == {"dense", "proposals", "roi_align", "head", "postprocess"}
    assert [load["connections"] for load in results["http"]] == [1, 16]
    assert all(load["answered"] > 0 and load["errors"] == {} for load in results["http"])
    assert "with upload" in text


def test_the_hosts_limit(run: Run) -> None:
    results, text = run("gpu.host", "--model shapes --rounds 1 --images 1 --seconds 0.2")
    rows = {(row["image"], row["way"]): row for row in results["rows"]}
    ways = ("1 thread", "threads", "processes")
    http = [("640x480", f"HTTP, {count} connections") for count in (1, 16, 64)]
    assert list(rows) == [*((image, way) for image in ("640x480", "12 MP") for way in ways), *http]
    assert all(row["images_per_second"] > 0 for row in rows.values())
    assert {rows[key]["errors"] for key in http} == {0}
    assert "no device computes" in text


def test_scale(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- scale-tiles -->\nold\n<!-- /scale-tiles -->\n")
    options = f"--points 4 --rounds 1 --requests 1 --page {page}"
    curves = run("scale.__main__", f"batch tiles {options}")[0]["results"]
    [batch], [tiled] = curves["batch"], curves["tiles"]
    assert batch["images_per_second"] == pytest.approx(4000 / batch["ms"])
    assert (tiled["point"], tiled["ratio"]) == (4, 1.0)
    assert tiled["found"] > 0 < tiled["stages_ms"]["inference"]
    assert page.read_text().startswith("<!-- scale-tiles -->\n| tiles | side, px | detected | p50 ms |")


def test_capacity(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables in a page and plots; ten minutes of traces."""
    monkeypatch.setattr("bench.capacity.scenarios.TRACE_SECONDS", 600.0)
    page, times = tmp_path / "page.md", tmp_path / "times.json"
    page.write_text("<!-- highest -->\nold\n<!-- /highest -->\nrest\n")
    write_times(times, ServiceTimes({1: [2.0]}, [0.1]))
    options = f"--times {times} --most 2 --requests 200 --page {page} --plots {tmp_path}"
    _, text = run("capacity.simulate", options)
    assert "one replica: 0.5 images/s" in text
    assert page.read_text().startswith("<!-- highest -->\n| replicas | random |")
    assert page.read_text().endswith("<!-- /highest -->\nrest\n")
    for name in ("capacity-load.png", "capacity-crowd.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_decode_memory(run: Run) -> None:
    results, text = run("decode_memory", "--width 2000 --only WEBP")
    modes = ["WEBP RGB", "WEBP RGB lossless", "WEBP RGBA", "WEBP RGBA lossless"]
    assert [row["name"] for row in results["rows"]] == modes
    for row in results["rows"]:
        assert 10 < row["measured"] < 1.1 * row["reserved"]
    assert "bytes a pixel" in text
