"""Batches: their number alone decides what is in them, wherever a run starts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as pillow

from models.datasets import AnnotatedImage
from models.shapes.batches import SceneBatches
from models.training.augment import Augmentation
from models.training.batches import Batch, BatchPlan, FolderBatches, folder_loader

pytestmark = pytest.mark.network

CHANGE = Augmentation(flip=True, turn=True, zoom=(0.5, 2.0), colour=0.3, mosaic=0.5)


@pytest.fixture
def images(tmp_path: Path) -> tuple[AnnotatedImage, ...]:
    """Three random images with a box each."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(3):
        path = tmp_path / f"{k}.png"
        pillow.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(path)
        box = np.array([[10, 10, 30, 30]], np.float32)
        found.append(AnnotatedImage(path, 60, 40, box, np.array([1]), np.array([False])))
    return tuple(found)


def same(ours: Batch, theirs: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours.images, theirs.images, strict=True)) and all(
        torch.equal(a[name], b[name]) for a, b in zip(ours.targets, theirs.targets, strict=True) for name in a
    )


def test_the_number_alone_decides_what_is_in_a_batch(images: tuple[AnnotatedImage, ...]) -> None:
    """Whatever was drawn from torch's generator before, and in another process too."""
    plan = BatchPlan(2, 7, CHANGE)
    series = iter(FolderBatches(images, plan))
    batches = [next(series) for _ in range(4)]
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert same(next(iter(FolderBatches(images, plan, first=3))), batches[3])
    assert torch.equal(torch.get_rng_state(), before), "the training draws as if nothing had been augmented"
    assert same(next(iter(folder_loader(images, plan, first=2))), batches[2])
    assert not same(next(iter(FolderBatches(images, BatchPlan(2, 8, CHANGE), first=3))), batches[3])
    assert {type(image) for batch in batches for image in batch.images} == {torch.Tensor}


def test_scene_batches_hold_one_orientation_and_can_start_anywhere() -> None:
    series = iter(SceneBatches(seed=3, batch_size=2))
    first, second = next(series), next(series)
    assert all(image.shape[2] >= image.shape[1] for image in first.images)
    assert all(image.shape[1] >= image.shape[2] for image in second.images)
    assert same(next(iter(SceneBatches(seed=3, batch_size=2, first_batch=1))), second)
    for image, target in zip(first.images, first.targets, strict=True):
        assert (target["boxes"][:, 2] <= image.shape[2]).all()
        assert (target["boxes"][:, 3] <= image.shape[1]).all()
