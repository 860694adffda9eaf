"""The few canvas sizes of a GPU: how many, how much padding, and that an image's own depends on it alone."""

import pytest
import torch

from models.pipeline.buckets import bucket, likely_canvases, padded_to, uses_buckets
from models.pipeline.canvas import resized

LIMITS = [(800, 1333), (320, 640), (256, 448), (64, 106), (800, 800)]


def natural(height: int, width: int, limits: tuple[int, int]) -> tuple[int, int]:
    rows, columns = (-(-side // 32) * 32 for side in resized(height, width, *limits))
    return rows, columns


@pytest.mark.parametrize(
    ("image", "canvas"),
    [
        ((480, 640), (800, 1088)),
        ((640, 480), (1088, 800)),
        ((1000, 1500), (800, 1216)),
        ((720, 1280), (800, 1344)),
        ((500, 500), (800, 800)),
        ((100, 1000), (224, 1344)),
    ],
)
def test_common_shapes_of_images(image: tuple[int, int], canvas: tuple[int, int]) -> None:
    assert bucket(natural(*image, (800, 1333)), (800, 1333)) == canvas


@pytest.mark.parametrize("limits", LIMITS)
def test_there_are_few_and_each_holds_its_image(limits: tuple[int, int]) -> None:
    found = set()
    for height in range(100, 2000, 37):
        for width in range(100, 2000, 41):
            own = natural(height, width, limits)
            canvas = bucket(own, limits)
            found.add(canvas)
            assert canvas[0] >= own[0]
            assert canvas[1] >= own[1]
            assert canvas[0] % 32 == canvas[1] % 32 == 0
            assert bucket(canvas, limits) == canvas
            if max(height, width) < 2 * min(height, width):
                assert canvas[0] * canvas[1] <= 1.4 * own[0] * own[1]
    assert len(found) <= 2 * (5 + 3)


def test_the_likeliest_canvases_are_recorded_first() -> None:
    limits, usual = (800, 1333), (800, 1088)
    both = [usual, (1088, 800)]
    more = [(800, 1216), (1216, 800), (800, 1344), (1344, 800), (800, 800)]
    assert likely_canvases(limits, usual, bucketed=True) == [*both, *more]
    assert likely_canvases(limits, usual, bucketed=False) == both


@pytest.mark.parametrize(
    ("device", "precision", "ways", "few"),
    [
        ("cuda:1", "fp16", True, True),
        ("cuda:0", "bf16", True, True),
        ("cuda:0", "fp32", True, False),
        ("cuda:0", "fp16", False, False),
        ("cpu", "bf16", True, False),
    ],
)
def test_few_sizes_are_for_half_precision_and_torchvisions_ways(
    device: str, precision: str, ways: bool, few: bool
) -> None:
    assert uses_buckets(device, precision, ways) is few


def test_a_smaller_canvas_is_padded_right_and_below() -> None:
    pixels = torch.ones(2, 3, 3)
    padded = padded_to(pixels, (4, 5))
    assert padded.shape == (4, 5, 3)
    assert torch.equal(padded[:2, :3], pixels)
    assert padded.sum() == pixels.sum()
    assert padded_to(pixels, (2, 3)) is pixels
