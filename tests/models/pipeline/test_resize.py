"""Resizes of other libraries: the same bytes as theirs."""

import cv2
import numpy as np
import pytest

from models.pipeline.resize import resize_opencv, resize_pillow

SIZES = [
    ((48, 64), (80, 107)),
    ((170, 150), (91, 80)),
    ((33, 77), (50, 10)),
    ((3, 5), (80, 133)),
    ((20, 40), (10, 20)),
    ((5, 7), (5, 7)),
]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_opencv_resizes_so(before: tuple[int, int], after: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*before, 3), np.uint8)
    expected = cv2.resize(pixels, after[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize_opencv(pixels, *after), expected)


def test_pillow_averages_when_it_shrinks() -> None:
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    assert resize_pillow(stripes, 8, 8) is stripes
    assert resize_pillow(stripes, 2, 2)[:, :, 0].tolist() == [[107, 93]] * 2
