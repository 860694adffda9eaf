"""Times engines of one network against each other: what a CPU lists does not tell which is faster."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from models.engines.protocol import Engine

# A heavy network takes a second for its own canvas; precisions compare alike on a smaller one.
LONGEST_SIDE = 320  # px
MULTIPLE = 32
BUDGET_SECONDS = 1.5  # of all runs but the first one of each engine, which allocates its memory
ROUNDS = 8


@dataclass(frozen=True, eq=False)
class Inputs:
    """A canvas (1, 3, H, W) and the pooled features (R, C, side, side) of as many regions as fit it."""

    pixels: Tensor
    pooled: Tensor


def inputs_of(network: FasterRCNN, side: int) -> Inputs:
    """Inputs of noise for a network whose canvases have that short side, px."""
    short = min(side, LONGEST_SIDE)
    height, width = (-(-length // MULTIPLE) * MULTIPLE for length in (short, short * 4 // 3))
    regions = max(16, round(network.rpn.post_nms_top_n() * (short / side) ** 2))
    cell, channels = network.roi_heads.box_roi_pool.output_size[0], network.backbone.out_channels
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, height, width, 3, generator=noise)
    pooled = torch.rand(regions, cell, cell, channels, generator=noise)
    return Inputs(pixels.permute(0, 3, 1, 2), pooled.permute(0, 3, 1, 2))


@torch.inference_mode()
def time_engines(engines: Mapping[str, Engine], inputs: Inputs) -> tuple[dict[str, float], dict[str, str]]:
    """The best milliseconds of each engine, in turns, and the faults of those that cannot run."""
    runs: dict[str, Callable[[], object]] = {}
    faults: dict[str, str] = {}
    for name, engine in engines.items():
        try:
            _run(engine, inputs)
        except RuntimeError as error:
            faults[name] = f"it cannot run here: {str(error).splitlines()[-1][:200]}"
            continue
        runs[name] = lambda engine=engine: _run(engine, inputs)  # type: ignore[misc]  # bound at once
    return _best(runs), faults


def _best(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Noise only adds time, so that the shortest counts; in turns, as it comes and goes."""
    best: dict[str, float] = {}
    deadline, rounds = time.perf_counter() + BUDGET_SECONDS, 0
    while rounds < ROUNDS and (not rounds or time.perf_counter() < deadline):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            taken = (time.perf_counter() - started) * 1000
            best[name] = min(best.get(name, taken), taken)
        rounds += 1
    return best


def _run(engine: Engine, inputs: Inputs) -> None:
    engine.dense(inputs.pixels)
    engine.head(inputs.pooled)
