"""The embedding-bag RoIAlign, and RoIPool, against torchvision's kernels."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_pool
from torchvision.ops import roi_align as torchvision_roi_align

from models.ops.roi_align import RoIAlignConfig, roi_align
from models.ops.scratch import MAX_KEPT, ScratchBuffer

CANVAS = (256, 320)


def features(strides: tuple[int, ...], batch: int = 2, channels: int = 12) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, channels, CANVAS[0] // s, CANVAS[1] // s, generator=generator).to(
            memory_format=torch.channels_last
        )
        for s in strides
    ]


def boxes(count: int, seed: int) -> torch.Tensor:
    """Random boxes of every size, with the awkward ones first: on the border, tiny, whole, empty, outside."""
    generator = torch.Generator().manual_seed(seed)
    awkward = torch.tensor(
        [
            [0, 0, 1, 1],
            [310, 250, 320, 256],
            [5, 5, 5.2, 5.1],
            [0, 0, 320, 256],
            [50, 60, 50, 60],
            [-40, -9, 3, 4],
        ]
    )
    start = torch.rand(count, 2, generator=generator) * torch.tensor([300.0, 240.0])
    size = torch.rand(count, 2, generator=generator) ** 3 * torch.tensor([320.0, 256.0])
    return torch.cat(
        [awkward, torch.cat([start, torch.minimum(start + size, torch.tensor([320.0, 256.0]))], 1)]
    )


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (8, 16, 32), (16,)])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("side", [7, 14])
def test_pooled_features_equal_torchvisions(strides: tuple[int, ...], sampling_ratio: int, side: int) -> None:
    maps = features(strides)
    proposals = [boxes(60, 1), boxes(25, 2)]
    names = [str(k) for k in range(len(strides))]
    expected = MultiScaleRoIAlign(names, side, sampling_ratio)(
        dict(zip(names, maps, strict=True)), proposals, [CANVAS] * 2
    )
    config = RoIAlignConfig(tuple(range(len(strides))), side, sampling_ratio, 224, 4)
    pooled = roi_align(maps, proposals, CANVAS, config)
    assert pooled.shape == expected.shape
    torch.testing.assert_close(pooled, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_an_aligned_pooler_shifts_boxes_as_torchvisions_does(sampling_ratio: int) -> None:
    (level,) = features((8,))
    proposals = [boxes(60, 1), boxes(25, 2)]
    expected = torchvision_roi_align(level, proposals, 7, 1 / 8, sampling_ratio, aligned=True)
    config = RoIAlignConfig((0,), 7, sampling_ratio, 224, 4, aligned=True)
    torch.testing.assert_close(roi_align([level], proposals, CANVAS, config), expected, atol=2e-5, rtol=0)


def test_a_quantised_pooler_takes_maxima_as_torchvisions_does() -> None:
    (level,) = features((16,))
    proposals = [boxes(60, 1), boxes(25, 2)]
    config = RoIAlignConfig((0,), 7, 1, 224, 4, quantised=True)
    pooled = roi_align([level], proposals, CANVAS, config)
    assert torch.equal(pooled, roi_pool(level, proposals, 7, 1 / 16))


@pytest.mark.parametrize("quantised", [False, True])
def test_no_proposals_pool_to_nothing(quantised: bool) -> None:
    config = RoIAlignConfig((0, 1), 7, 2, 224, 4, quantised)
    pooled = roi_align(features((8, 16)), [torch.zeros(0, 4)] * 2, CANVAS, config)
    assert pooled.shape == (0, 12, 7, 7)


def test_a_scratch_buffer_does_not_change_the_result() -> None:
    maps = features((4, 8, 16, 32), channels=96)
    config = RoIAlignConfig((0, 1, 2, 3), 7, 2, 224, 4)
    buffer = ScratchBuffer()
    for count in (900, 5, 600):  # more than are pooled at once, fewer, and more
        proposals = [boxes(count, 1), boxes(25, 2)]
        names = [str(k) for k in range(4)]
        expected = MultiScaleRoIAlign(names, 7, 2)(
            dict(zip(names, maps, strict=True)), proposals, [CANVAS] * 2
        )
        pooled = roi_align(maps, proposals, CANVAS, config, buffer)
        torch.testing.assert_close(pooled, expected, atol=2e-5, rtol=0)


def test_proposals_of_one_level_pool_as_among_others() -> None:
    maps = features((8, 16, 32))
    small = boxes(200, 3).clamp(max=100)
    whole = torch.tensor([[0.0, 0.0, 320.0, 256.0]])
    config = RoIAlignConfig((0, 1, 2), 7, 2, 224, 4)
    alone = roi_align(maps, [small, small[:0]], CANVAS, config)
    among = roi_align(maps, [torch.cat([small, whole]), small[:0]], CANVAS, config)
    assert torch.equal(alone, among[:-1])


def test_a_scratch_buffer_reuses_its_memory_and_does_not_keep_large_ones() -> None:
    buffer = ScratchBuffer()
    first = buffer(4, 5)
    assert buffer(2, 3).data_ptr() == first.data_ptr()
    assert buffer(0, 3).shape == (0, 3)
    large = buffer(MAX_KEPT + 1)
    assert large.data_ptr() != buffer(1).data_ptr() == first.data_ptr()
