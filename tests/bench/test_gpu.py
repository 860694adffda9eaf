"""The counts and shares of the GPU benchmark, by hand, and variants that cannot run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.gpu.measuring import count_calls, count_operations
from bench.gpu.onnx_rival import PROVIDERS, onnx_rivals
from bench.gpu.peaks import Demand, Peaks, demand
from bench.gpu.report import measure_variants
from bench.gpu.variants import Variant
from bench.harness import pictures
from tests.support.data.networks import random_network

HALF = Peaks(flops=2e12, bandwidth=1e12)


def test_views_are_no_operations() -> None:
    tensor = torch.ones(4, 4)
    assert count_operations(lambda: tensor.view(2, 8).permute(1, 0)[0]) == 0
    assert count_operations(lambda: (tensor.view(2, 8) + 1).relu_()) == 2


def test_launches_and_waits_are_counted_by_their_names() -> None:
    names = ["cudaLaunchKernel", "cudaLaunchKernelExC", "cudaGraphLaunch", "cuLaunchKernelEx", "aten::add"]
    assert count_calls([*names, "cudaStreamSynchronize", "cudaMemcpyAsync"]) == (4, 1)


def test_shares_are_of_the_measured_peaks() -> None:
    shares = Demand(flop=1e9, traffic=5e8).shares(1000, HALF)
    assert shares == {"share_of_peak": 0.5, "share_of_bandwidth": 0.5}


@pytest.mark.network
def test_the_traffic_is_what_convolutions_read_and_write() -> None:
    """Four times the pixels: four times the activations, the same weights."""
    network = random_network()
    small, large = (demand(network, (side, side), 1).traffic for side in (64, 128))
    weights = (4 * small - large) / 3
    convolutions = [part for part in network.modules() if isinstance(part, torch.nn.Conv2d)]
    held = sum(one.numel() for part in convolutions for one in part.parameters())
    levels = 5  # the RPN's head runs on each, and reads its weights each time
    again = sum(one.numel() for one in network.rpn.head.parameters()) * (levels - 1)
    assert weights == pytest.approx(2 * (held + again), rel=0.05)


def test_a_variant_that_cannot_run_is_a_row_with_its_error() -> None:
    def cannot() -> None:
        raise RuntimeError("no C++ compiler\nwas found")

    arguments: Any = SimpleNamespace(device="cpu", seconds=0.0, rounds=1)
    variants = [Variant("works", lambda: torch.ones(1) + 1), Variant("compiled", cannot)]
    works, compiled = measure_variants(variants, 8, arguments, (Demand(1e9, 1e9), HALF))
    assert (works["variant"], works["operations"]) == ("works", 2)
    assert works["images_per_second"] == pytest.approx(8 / works["ms"] * 1000)
    assert compiled == {"variant": "compiled", "batch": 8, "failed": "no C++ compiler"}


def test_onnx_runtime_without_a_gpus_provider_says_what_to_install(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    rivals = onnx_rivals("shapes", "cuda:0", tmp_path, [pictures.jpeg()])
    missing = [name for _, name, _ in PROVIDERS["cuda"] if name not in onnxruntime.get_available_providers()]
    reasons = []
    for rival in rivals:
        with pytest.raises(RuntimeError, match="install onnxruntime-gpu") as refused:
            rival.run()
        reasons.append(str(refused.value))
    assert reasons == [f"no {name}: install onnxruntime-gpu" for name in missing]
