"""The roofline: the arithmetic of an image, and how much of it this machine can do in a second.

The peak of a kind of number is that of the faster of two kernels, torch's and OpenVINO's, since neither is
faster on every CPU: torch's fp32 matmul is MKL's, which uses narrower vectors than some CPUs have, while
OpenVINO's convolution uses the widest; for int8 both use oneDNN, and only OpenVINO's quantises its input
first. A multiplication and an addition are 2 FLOP, in int8 as well.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import FasterRCNN

from bench.harness.options import Columns
from models.engines.parts import DensePart, HeadPart

SIDE = 2048  # of the square matrices: they fill the caches, and take some 20 ms
MAP = (256, 64, 64)  # channels, height, width of the convolution: a level of a feature pyramid
REPEATS = 5
COLUMNS: Columns = {
    "model": "{model}",
    "engine": "{engine}",
    "part": "{part}",
    "GFLOP an image": "{gflop:.1f}",
    "ms at peak": "{ms_at_peak:.1f}",
    "ms": "{ms:.1f}",
    "of peak": "{share_of_peak:.0%}",
}


@dataclass(frozen=True)
class Work:
    """Arithmetic of one image, in GFLOP: the dense part, and the head for all of its proposals."""

    dense: float
    head: float

    @property
    def parts(self) -> dict[str, float]:
        """By the names of the stages; `image` is both: the other stages have little arithmetic."""
        return {"dense": self.dense, "head": self.head, "image": self.dense + self.head}


Peaks = dict[str, dict[str, float]]
"""GFLOP/s by kind of number (fp32, int8) and kernel; the peak of a kind is the highest of its kernels."""


def count(network: FasterRCNN, canvas: tuple[int, int], rois: int) -> Work:
    """Count on meta tensors: nothing is computed. `canvas` is (H, W), `rois` the number of proposals."""
    shapes = copy.deepcopy(network).to("meta")
    side = network.roi_heads.box_roi_pool.output_size[0]
    dense = torch.empty(1, 3, *canvas, device="meta")
    pooled = torch.empty(rois, network.backbone.out_channels, side, side, device="meta")
    return Work(_flop(DensePart(shapes), dense) / 1e9, _flop(HeadPart(shapes), pooled) / 1e9)


def _flop(part: torch.nn.Module, example: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        part.eval()(example)
    return int(counter.get_total_flops())


def measure_peaks(device: str = "cpu") -> Peaks:
    """Each kernel's best of several runs, on torch's current number of threads."""
    peaks: Peaks = {}
    for kind, kernel, flop, run in _kernels(device):
        run()
        peaks.setdefault(kind, {})[kernel] = flop / min(_seconds(run, device) for _ in range(REPEATS)) / 1e9
    return peaks


def best(runs: list[Peaks]) -> Peaks:
    """The best of several measurements, kernel by kernel."""
    first = runs[0]
    return {
        kind: {kernel: max(run[kind][kernel] for run in runs) for kernel in first[kind]} for kind in first
    }


def of_kind(peaks: Mapping[str, Mapping[str, float]], kind: str) -> float:
    """The peak of a kind of number, GFLOP/s; 0 if nothing was measured."""
    return max(peaks.get(kind, {}).values(), default=0.0)


def shares(work: Work, peaks: Peaks, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each timed part of an engine's `row`: GFLOP, ms, ms at the engine's peak, their share."""
    peak = of_kind(peaks, "int8" if "int8" in row["engine"] else "fp32")
    times = {**row["stages_ms"], "image": row["ms"]}
    for part, gflop in work.parts.items():
        if part in times and peak:
            at_peak = gflop / peak * 1000
            numbers = {"gflop": gflop, "ms": times[part], "ms_at_peak": at_peak}
            names = {"model": row["model"], "engine": row["engine"], "part": part}
            yield {**names, **numbers, "share_of_peak": at_peak / times[part]}


def describe(peaks: Peaks) -> str:
    """The peaks and their kernels in one line."""
    kinds = []
    for kind, kernels in peaks.items():
        each = ", ".join(f"{kernel} {reached:.0f}" for kernel, reached in kernels.items())
        kinds.append(f"{kind} {of_kind(peaks, kind):.0f} GFLOP/s ({each})")
    return "; ".join(kinds)


def _seconds(run: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _kernels(device: str) -> Iterator[tuple[str, str, float, Callable[[], object]]]:
    """Kind of number, name, FLOP, and a function that runs it; on a GPU torch alone."""
    flop = 2.0 * SIDE**3
    left, right, out = (torch.rand(SIDE, SIDE, device=device) for _ in range(3))
    yield "fp32", "torch matmul", flop, lambda: torch.mm(left, right, out=out)
    if device != "cpu":
        return
    small = torch.randint(-127, 127, (SIDE, SIDE), dtype=torch.int8)
    yield "int8", "torch matmul", flop, lambda: torch._int_mm(small, small)
    if find_spec("openvino"):
        channels, height, width = MAP
        flop = 2.0 * 9 * channels**2 * height * width
        yield "fp32", "OpenVINO convolution", flop, _convolution(int8=False)
        yield "int8", "OpenVINO convolution", flop, _convolution(int8=True)


def _convolution(int8: bool) -> Callable[[], object]:
    """A 3x3 convolution as in the networks; of its output only the largest value leaves OpenVINO."""
    from models.engines.openvino_import import ov

    op = ov.opset13
    channels = MAP[0]
    kernel = np.random.default_rng(0).integers(-127, 127, (channels, channels, 3, 3), np.int8)
    image = op.parameter([1, *MAP], np.float32)
    levels = [np.float32(value) for value in (0, 2.55, 0, 2.55)]  # of 8 bits, unsigned as after a ReLU
    weights: Any = op.constant(kernel.astype(np.float32) / 100)
    if int8:  # the pattern that OpenVINO reads as int8: quantised input, int8 weights times a scale
        scale = op.constant(np.full((channels, 1, 1, 1), 0.01, np.float32))
        weights = op.multiply(op.convert(op.constant(kernel), np.float32), scale)
    inputs = op.fake_quantize(image, *levels, 256) if int8 else image
    made: Any = op.relu(op.convolution(inputs, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    if int8:
        made = op.fake_quantize(made, *levels, 256)
    largest = op.reduce_max(made, op.constant(np.array([1, 2, 3])), False)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = ov.Core().compile_model(ov.Model([largest], [image], "peak"), "CPU", settings)
    request = compiled.create_infer_request()
    pixels = np.random.default_rng(1).random((1, *MAP), np.float32)
    return lambda: request.infer([pixels], share_inputs=True, share_outputs=True)
