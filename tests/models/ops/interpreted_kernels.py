"""Triton's kernels, interpreted on the CPU, against torch's operators: run by test_kernels.

Triton has to be imported with TRITON_INTERPRET=1, so this is a process of its own.
"""

import torch
from torchvision.ops import nms

from models.ops import triton_kernels
from models.ops.fixed_nms import KEPT, Ranked
from models.ops.kernels import checked
from models.ops.pyramid_pool import pool_pyramid
from models.ops.roi_align import RoIAlignConfig


def check_nms() -> None:
    """Three blocks of boxes, in three kinds, against torchvision's."""
    noise = torch.rand(2, 140, 4)
    boxes = torch.cat([noise[..., :2] * 200, noise[..., :2] * 200 + noise[..., 2:] * 80], dim=2)
    valid, kinds = noise[..., 3] > 0.1, (noise[..., 2] * 3).floor()
    ranked = Ranked(boxes, boxes[..., 2:] - boxes[..., :2], valid, kinds)
    thresholds = torch.tensor([0.3, 0.6])
    states, _ = triton_kernels.nms(ranked, thresholds[:, None, None])
    for group, threshold in enumerate(thresholds.tolist()):
        kept = set()
        for kind in range(3):
            rows = torch.where(valid[group] & (kinds[group] == kind))[0]
            scores = torch.arange(len(rows), 0, -1).float()
            kept |= set(rows[nms(boxes[group, rows], scores, threshold)].tolist())
        assert 10 < len(kept) < 130
        assert set(torch.where(states[group] == KEPT)[0].tolist()) == kept


def check_half_precision() -> None:
    """Sums are float32, so that only the features and the result are rounded."""
    level = torch.randn(1, 4, 8, 12).half().to(memory_format=torch.channels_last)
    boxes, images = torch.tensor([[3.0, 5.0, 60.0, 50.0], [40.0, 30.0, 96.0, 64.0]]), torch.zeros(2).long()
    config = RoIAlignConfig((0,), 2, 2, 224, 4)
    ours = triton_kernels.pool([level], boxes, images, (64, 96), config)
    exact = pool_pyramid([level.float()], boxes, images, (64, 96), config)
    assert ours.dtype == torch.float16
    torch.testing.assert_close(ours, exact.half())


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    checked(triton_kernels, torch.device("cpu"))
    check_nms()
    check_half_precision()
    print("equal")
