"""NMS and RoIAlign with fixed shapes: Triton's kernels where they can be compiled, else torch's operators."""

import logging
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from models.ops.fixed_nms import Ranked, fixed_nms
from models.ops.pyramid_pool import pool_pyramid
from models.ops.roi_align import RoIAlignConfig

log = logging.getLogger(__name__)

MODULE = "models.ops.triton_kernels"
# Of Triton without a C compiler, with a cache that it may not write or run, or on a GPU it does not know.
FAILURES = (RuntimeError, OSError, ImportError, subprocess.SubprocessError, AssertionError)

Nms = Callable[[Ranked, float | Tensor, int], tuple[Tensor, Tensor]]
Pool = Callable[[Sequence[Tensor], Tensor, Tensor, tuple[int, int], RoIAlignConfig], Tensor]


@dataclass(frozen=True)
class Kernels:
    """`nms`: as `fixed_nms`. `pool`: as `pool_pyramid`."""

    nms: Nms = fixed_nms
    pool: Pool = pool_pyramid


OF_TORCH = Kernels()


@lru_cache
def kernels_for(device: torch.device) -> Kernels:
    """The fastest kernels that work on a device."""
    if device.type != "cuda" or find_spec("triton") is None:
        return OF_TORCH
    try:
        return _of_triton(device)
    except FAILURES as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        log.info("NMS and RoIAlign use torch's operators, as Triton cannot be used: %s", reason)
        return OF_TORCH


def _of_triton(device: torch.device) -> Kernels:
    triton = import_module(MODULE)
    try:
        return checked(triton, device)
    except triton.CompileError as error:
        raise RuntimeError(str(error)) from error


def checked(triton: Any, device: torch.device) -> Kernels:
    """Triton's kernels, compiled and compared with torch's; raises RuntimeError if they differ."""
    ours = Kernels(triton.nms, _pooling(triton.pool))
    torch.testing.assert_close(*(_of_nms(kernels, device) for kernels in (ours, OF_TORCH)), rtol=0, atol=0)
    torch.testing.assert_close(*(_of_pool(kernels, device) for kernels in (ours, OF_TORCH)))
    return ours


def _pooling(pool: Pool) -> Pool:
    """RoIAlign by the kernel, RoIPool by torchvision's operator."""

    def either(
        features: Sequence[Tensor],
        boxes: Tensor,
        images: Tensor,
        canvas: tuple[int, int],
        config: RoIAlignConfig,
    ) -> Tensor:
        run = pool_pyramid if config.quantised else pool
        return run(features, boxes, images, canvas, config)

    return either


def _noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def _of_nms(kernels: Kernels, device: torch.device) -> Tensor:
    noise = _noise(2, 100, 4).to(device)
    boxes = torch.cat([noise[..., :2], noise[..., :2] + noise[..., 2:]], dim=2)
    ranked = Ranked(boxes, boxes[..., 2:] - boxes[..., :2], noise[..., 0] > 0.1, (noise[..., 1] * 3).floor())
    return kernels.nms(ranked, 0.3, 100)[1]


def _of_pool(kernels: Kernels, device: torch.device) -> Tensor:
    levels = [
        _noise(2, 8, *size).to(device).to(memory_format=torch.channels_last) for size in ((16, 24), (8, 12))
    ]
    noise = _noise(4, 4).to(device) * 50
    boxes = torch.cat([noise[:, :2], noise[:, :2] + noise[:, 2:]], dim=1)
    images = torch.arange(4, device=device) % 2
    config = RoIAlignConfig((0, 1), 3, 2, canonical_scale=16, canonical_level=1)
    return kernels.pool(levels, boxes, images, (64, 96), config)
