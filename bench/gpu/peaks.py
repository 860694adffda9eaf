"""What a device can do in a second, and what an image asks of it, in half precision."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from bench.gpu.measuring import Operations, is_cuda, synchronize
from bench.harness import roofline
from models.engines.parts import DensePart

REPEATS = 10
SIDE = {"cuda": 8192, "cpu": 512}  # of the matrices: 1.1 TFLOP, some 1.5 ms on an H200
COPIED_BYTES = {"cuda": 1 << 30, "cpu": 1 << 26}
READ_AND_WRITE = ("convolution", "addmm", "linear")


@dataclass(frozen=True)
class Peaks:
    """FLOP/s of a matmul, and bytes/s of a copy, read and written."""

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Demand:
    """FLOP of an image, and bytes that its convolutions read and write: what fused kernels would move."""

    flop: float
    traffic: float

    def shares(self, images_per_second: float, peaks: Peaks) -> dict[str, float]:
        """Of both peaks, at that rate."""
        return {
            "share_of_peak": self.flop * images_per_second / peaks.flops,
            "share_of_bandwidth": self.traffic * images_per_second / peaks.bandwidth,
        }


def measure_peaks(device: str) -> Peaks:
    """The best of several runs: a half-precision matmul (fp32 on a CPU), and a copy on the device."""
    kind = "cuda" if is_cuda(device) else "cpu"
    dtype, side = (torch.half if kind == "cuda" else torch.float), SIDE[kind]
    left, right, out = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(3))
    source = torch.zeros(COPIED_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Peaks(
        2.0 * side**3 / _best(lambda: torch.mm(left, right, out=out), device),
        2.0 * len(source) / _best(lambda: target.copy_(source), device),
    )


def _best(run: Callable[[], object], device: str) -> float:
    seconds = []
    for _ in range(1 + REPEATS):
        synchronize(device)
        started = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def demand(network: FasterRCNN, canvas: tuple[int, int], rois: int) -> Demand:
    """Counted on meta tensors; `canvas` is (H, W), `rois` the number of proposals."""
    work = roofline.count(network, canvas, rois)
    part = DensePart(copy.deepcopy(network)).to("meta").half().eval()
    moved: list[int] = []
    with torch.no_grad(), Operations(lambda *operation: moved.append(_traffic(*operation))):
        part(torch.empty(1, 3, *canvas, device="meta", dtype=torch.half))
    return Demand((work.dense + work.head) * 1e9, sum(moved))


def _traffic(function: Any, args: Sequence[Any], result: Any) -> int:
    """Bytes of the arguments and results of a convolution or linear layer; of others 0."""
    if not any(name in str(function) for name in READ_AND_WRITE):
        return 0
    return sum(one.numel() * one.element_size() for one in (*args, result) if isinstance(one, Tensor))
