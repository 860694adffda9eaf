"""Augmentation: boxes follow their pixels, whatever is done to them."""

import numpy as np
import pytest
import torch

from models.training.augment import GREY, Augmentation, Sample, augment, mosaic, to_sample, transposed, zoomed

pytestmark = pytest.mark.network

UNCHANGED = Augmentation(mirror=False)
EVERYTHING = Augmentation(mirror=True, flip=True, zoom=(0.5, 2.0), colour=0.3)


def marked(height: int = 120, width: int = 160) -> Sample:
    """Black, with one white and one red rectangle exactly where the boxes are."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[20:60, 10:50] = 255
    pixels[70:110, 90:150, 0] = 255
    boxes = np.array([[10, 20, 50, 60], [90, 70, 150, 110]], np.float32)
    return to_sample(pixels, boxes, np.array([1, 2]))


def empty() -> Sample:
    return to_sample(np.zeros((50, 60, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def drawn(count: int, change: Augmentation) -> list[Sample]:
    """The first `count` augmentations of the same sample after seed 0."""
    torch.manual_seed(0)
    return [augment(marked(), change) for _ in range(count)]


def assert_boxes_fit(sample: Sample, slack: float = 2.0) -> None:
    """The bright pixels of each colour reach exactly as far as the boxes of its label."""
    masks = {1: sample.pixels[1] > 128, 2: (sample.pixels[0] > 128) & (sample.pixels[1] < 64)}
    for box, label in zip(sample.boxes, sample.labels.tolist(), strict=True):
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        inside = torch.zeros_like(masks[label])
        inside[y1:y2, x1:x2] = masks[label][y1:y2, x1:x2]
        rows, columns = torch.where(inside)
        extent = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        torch.testing.assert_close(extent.float(), torch.Tensor(box), atol=slack, rtol=0)


def test_transposing_twice_changes_nothing() -> None:
    once = transposed(marked())
    assert once.size == (160, 120)
    assert_boxes_fit(once, slack=0.5)
    twice = transposed(once)
    assert torch.equal(twice.pixels, marked().pixels)
    assert torch.equal(twice.boxes, marked().boxes)


@pytest.mark.parametrize("change", [Augmentation(), Augmentation(mirror=False, flip=True)])
def test_half_of_the_samples_are_mirrored(change: Augmentation) -> None:
    samples = drawn(200, change)
    mirrored = [not torch.equal(sample.boxes, marked().boxes) for sample in samples]
    assert 70 < sum(mirrored) < 130
    assert_boxes_fit(samples[mirrored.index(True)], slack=0.5)


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_zoom_keeps_the_size_and_boxes_on_their_pixels(scale: float, seed: int) -> None:
    torch.manual_seed(seed)
    sample = zoomed(marked(), scale, 0.3)
    assert sample.size == (120, 160)
    assert_boxes_fit(sample)
    assert (sample.boxes >= 0).all()
    assert (sample.boxes <= torch.tensor([160, 120, 160, 120])).all()
    if scale == 0.5:
        assert (sample.pixels == GREY).float().mean() > 0.7, "outside the image is grey"


def test_zoom_factors_are_drawn_evenly_by_their_logarithm() -> None:
    samples = drawn(200, Augmentation(mirror=False, zoom=(0.5, 2.0), visible=0.999))
    whole = [sample.boxes[0] for sample in samples if 1 in sample.labels]
    sides = torch.stack(whole)[:, 2:] - torch.stack(whole)[:, :2]
    assert 19 <= sides.min() <= 22
    assert 60 < sides.max() <= 81
    shrunk = sum(
        len(sample.labels) == 2 and float(sample.boxes[0, 2] - sample.boxes[0, 0]) < 40 for sample in samples
    )
    assert 75 < shrunk < 125


def test_boxes_that_are_cut_too_far_are_dropped() -> None:
    def kept(visible: float) -> int:
        torch.manual_seed(0)
        return sum(len(zoomed(marked(), 2.5, visible).labels) for _ in range(12))

    assert kept(0.05) > kept(0.95)


def test_colours_change_within_bounds_and_boxes_stay() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    sample = to_sample(pixels, np.array([[1, 1, 9, 9]], np.float32), np.array([1]))
    torch.manual_seed(3)
    changed = augment(sample, Augmentation(mirror=False, colour=0.5))
    difference = changed.pixels.float() - sample.pixels.float()
    assert difference.abs().max() > 5
    assert difference.abs().max() < 200
    assert torch.equal(changed.boxes, sample.boxes)


@pytest.mark.parametrize("seed", range(6))
def test_a_mosaic_shows_four_images_with_their_boxes(seed: int) -> None:
    torch.manual_seed(seed)
    change = Augmentation(mirror=True, flip=True, zoom=(0.4, 0.7), visible=0.5)
    whole = mosaic([marked() for _ in range(4)], change)
    assert whole.size == (120, 160)
    assert len(whole.labels) > 0
    assert_boxes_fit(whole)


def test_images_without_objects_stay_without() -> None:
    assert all(augment(empty(), EVERYTHING).boxes.shape == (0, 4) for _ in range(5))
    assert mosaic([empty()] * 4, EVERYTHING).boxes.shape == (0, 4)


def test_without_options_nothing_changes() -> None:
    [sample] = drawn(1, UNCHANGED)
    assert torch.equal(sample.pixels, marked().pixels)
    assert torch.equal(sample.boxes, marked().boxes)


def test_whole_images_are_still_mirrored_and_recoloured_but_not_cut() -> None:
    change = Augmentation(flip=True, turn=True, zoom=(0.5, 2.0), colour=0.2, mosaic=1.0).whole
    assert change == Augmentation(flip=True, turn=True, zoom=(1.0, 1.0), colour=0.2, mosaic=0.0)
