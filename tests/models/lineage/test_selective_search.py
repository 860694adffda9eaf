"""Selective Search: the shapes are among its proposals, which are the same each time."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from models.images.decoder import Image
from models.lineage.selective_search import Boxes, selective_search
from models.shapes.scenes import draw_scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def proposals(image: Image) -> Boxes:
    return selective_search(image.pixels, 2000)


def test_selective_search_proposes_the_shapes() -> None:
    matched = objects = 0
    for index in (3, 9):
        scene = draw_scene(11, index)
        boxes = selective_search(scene.pixels, 2000)
        height, width = scene.pixels.shape[:2]
        assert boxes.dtype == np.float32
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= np.array([width, height]) + 1e-3).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        best = box_iou(torch.from_numpy(scene.boxes), torch.from_numpy(boxes)).max(1).values
        matched, objects = matched + int((best >= 0.5).sum()), objects + len(best)
    assert objects > 8
    assert matched >= 0.95 * objects


def test_proposals_are_the_same_again_and_in_the_same_order(image: Image, proposals: Boxes) -> None:
    assert len(proposals) > 50
    assert (selective_search(image.pixels, 30) == proposals[:30]).all()


def test_the_first_proposals_are_large_and_small_ones(proposals: Boxes) -> None:
    """The order is that of the hierarchy at random: a cut keeps some of each size."""
    sides = np.sqrt((proposals[:40, 2:] - proposals[:40, :2]).prod(1))
    assert sides.max() > 200
    assert sides.min() < 40


@pytest.mark.parametrize("shape", [(1, 1), (2, 90), (90, 2)])
def test_a_sliver_is_one_proposal(shape: tuple[int, int]) -> None:
    boxes = selective_search(np.zeros((*shape, 3), np.uint8), 10)
    assert boxes.tolist() == [[0, 0, shape[1], shape[0]]]
