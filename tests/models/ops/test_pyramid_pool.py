"""The fixed-shape RoIAlign over all levels against torchvision's, and the choice of levels."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_pool
from torchvision.ops.poolers import LevelMapper

from models.ops import pyramid_pool as module
from models.ops.pyramid_pool import pool_pyramid
from models.ops.roi_align import RoIAlignConfig, level_of_each
from tests.models.ops.test_roi_align import CANVAS, boxes, features

STRIDES = (4, 8, 16, 32)


def inside(count: int, seed: int) -> torch.Tensor:
    """Boxes inside the canvas, as the tail clips them."""
    height, width = CANVAS
    return torch.minimum(boxes(count, seed).clamp(min=0), torch.tensor([width, height] * 2).float())


@pytest.mark.parametrize("strides", [STRIDES, (8, 16, 32), (16,)])
@pytest.mark.parametrize("sampling_ratio", [1, 2])
@pytest.mark.parametrize("side", [7, 14])
def test_pooled_features_equal_torchvisions(strides: tuple[int, ...], sampling_ratio: int, side: int) -> None:
    maps, proposals = features(strides), [inside(60, 1), inside(25, 2)]
    names = [str(k) for k in range(len(strides))]
    expected = MultiScaleRoIAlign(names, side, sampling_ratio)(
        dict(zip(names, maps, strict=True)), proposals, [CANVAS] * 2
    )
    config = RoIAlignConfig(tuple(range(len(strides))), side, sampling_ratio, 224, 4)
    images = torch.tensor([0] * len(proposals[0]) + [1] * len(proposals[1]))
    pooled = pool_pyramid(maps, torch.cat(proposals), images, CANVAS, config)
    torch.testing.assert_close(pooled, expected, atol=5e-5, rtol=0)


def test_more_rows_than_a_float_can_number(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, some = features(STRIDES), inside(60, 1)
    config = RoIAlignConfig((0, 1, 2, 3), 7, 2, 224, 4)
    images = torch.ones(len(some), dtype=torch.int64)
    few = pool_pyramid(maps, some, images, CANVAS, config)
    monkeypatch.setattr(module, "EXACT_FLOATS", 10)
    module._table.cache_clear()
    many = pool_pyramid(maps, some, images, CANVAS, config)
    module._table.cache_clear()
    assert many.dtype == torch.float32
    torch.testing.assert_close(many, few, atol=5e-5, rtol=0)


def test_a_quantised_pooler_takes_maxima_as_torchvisions_does() -> None:
    (level,) = features((16,))
    some = inside(60, 1)
    config = RoIAlignConfig((0,), 7, 1, 224, 4, quantised=True)
    pooled = pool_pyramid([level], some, torch.zeros(len(some), dtype=torch.int64), CANVAS, config)
    assert torch.equal(pooled, roi_pool(level[:1], [some], 7, 1 / 16))


@pytest.mark.parametrize("levels", [4, 3, 2])
def test_levels_are_those_of_torchvisions_mapper(levels: int) -> None:
    """Also a few floats around each border, where its rounding decides."""
    config = RoIAlignConfig(tuple(range(levels)), 7, 2, 224, 4)
    borders = torch.tensor([56.0, 112.0, 224.0, 448.0]) ** 2
    near = (borders.view(torch.int32)[:, None] + torch.arange(-40, 40, dtype=torch.int32)).view(-1)
    areas = torch.cat([near.view(torch.float32), torch.rand(1000) * 1e6, torch.zeros(1)])
    sizes = torch.stack([areas, torch.ones_like(areas)], dim=1)
    mapper = LevelMapper(2, 1 + levels, 224, 4)
    expected = mapper([torch.cat([torch.zeros_like(sizes), sizes], dim=1)])
    assert torch.equal(level_of_each(sizes, [2.0**-k for k in range(2, 2 + levels)], config), expected)
