"""Augmentation: boxes follow their pixels, whatever is done to them."""

import numpy as np
import pytest
import torch

from models.training.augment import (
    GREY,
    Augmentation,
    Sample,
    augment,
    flipped,
    mirrored,
    mosaic,
    recoloured,
    turned,
    zoomed,
)


def marked(height: int = 120, width: int = 160) -> Sample:
    """Black, with one white and one red rectangle exactly where the boxes say."""
    pixels = torch.zeros(3, height, width)
    pixels[:, 20:60, 10:50] = 255
    pixels[0, 70:110, 90:150] = 255
    boxes = torch.tensor([[10.0, 20.0, 50.0, 60.0], [90.0, 70.0, 150.0, 110.0]])
    return Sample(pixels, boxes, torch.tensor([1, 2]))


def assert_boxes_fit(sample: Sample, slack: float = 2.0) -> None:
    """The bright pixels of each colour reach just as far as the boxes of its label."""
    masks = {1: sample.pixels[1] > 128, 2: (sample.pixels[0] > 128) & (sample.pixels[1] < 64)}
    for box, label in zip(sample.boxes, sample.labels.tolist(), strict=True):
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        inside = torch.zeros_like(masks[label])
        inside[y1:y2, x1:x2] = masks[label][y1:y2, x1:x2]
        rows, columns = torch.where(inside)
        found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        torch.testing.assert_close(found.float(), box, atol=slack, rtol=0)


@pytest.mark.parametrize("change", [mirrored, flipped, turned])
def test_mirroring_twice_changes_nothing_and_once_moves_boxes(change: object) -> None:
    once = change(marked())
    assert_boxes_fit(once, slack=0.5)
    assert not torch.equal(once.boxes, marked().boxes)
    twice = change(once)
    assert torch.equal(twice.pixels, marked().pixels)
    assert torch.equal(twice.boxes, marked().boxes)


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_zoom_keeps_the_size_and_boxes_on_their_pixels(scale: float, seed: int) -> None:
    sample = zoomed(marked(), scale, 0.3, np.random.default_rng(seed))
    assert sample.pixels.shape == (3, 120, 160)
    assert_boxes_fit(sample)
    assert (sample.boxes >= 0).all()
    assert (sample.boxes <= torch.tensor([160, 120, 160, 120])).all()


def test_what_is_cut_too_far_is_dropped() -> None:
    kept = [
        len(zoomed(marked(), 2.5, visible, np.random.default_rng(seed)).labels)
        for visible in (0.05, 0.95)
        for seed in range(12)
    ]
    assert sum(kept[:12]) > sum(kept[12:])


def test_outside_the_image_is_grey() -> None:
    sample = zoomed(marked(), 0.5, 0.3, np.random.default_rng(0))
    assert (sample.pixels == GREY).float().mean() > 0.7


def test_colours_change_within_bounds_and_boxes_stay() -> None:
    sample = Sample(torch.rand(3, 40, 40) * 255, torch.tensor([[1.0, 1, 9, 9]]), torch.tensor([1]))
    changed = recoloured(sample, 0.5, np.random.default_rng(3))
    assert not torch.allclose(changed.pixels, sample.pixels, atol=5)
    assert changed.pixels.min() >= 0
    assert changed.pixels.max() <= 255
    assert torch.equal(changed.boxes, sample.boxes)


@pytest.mark.parametrize("seed", range(6))
def test_a_mosaic_shows_four_images_with_their_boxes(seed: int) -> None:
    change = Augmentation(mirror=True, flip=True, zoom=(0.4, 0.7), visible=0.5)
    samples = [marked() for _ in range(4)]
    whole = mosaic(samples, change, np.random.default_rng(seed))
    assert whole.pixels.shape == (3, 120, 160)
    assert len(whole.labels) > 0
    assert_boxes_fit(whole)


def test_images_without_objects_pass_through() -> None:
    empty = Sample(torch.zeros(3, 50, 60), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    change = Augmentation(mirror=True, flip=True, zoom=(0.5, 2.0), colour=0.3)
    for seed in range(5):
        changed = augment(empty, change, np.random.default_rng(seed))
        assert changed.boxes.shape == (0, 4)
    assert mosaic([empty] * 4, change, np.random.default_rng(0)).boxes.shape == (0, 4)


def test_the_same_seed_makes_the_same_change() -> None:
    change = Augmentation(mirror=True, flip=True, zoom=(0.5, 2.0), colour=0.3)
    first, second = (augment(marked(), change, np.random.default_rng(9)) for _ in range(2))
    assert torch.equal(first.pixels, second.pixels)
    assert torch.equal(first.boxes, second.boxes)


def test_whole_images_are_still_mirrored_and_recoloured_but_not_cut() -> None:
    change = Augmentation(flip=True, turn=True, zoom=(0.5, 2.0), colour=0.2, mosaic=1.0).whole
    assert change == Augmentation(flip=True, turn=True, zoom=(1.0, 1.0), colour=0.2, mosaic=0.0)
