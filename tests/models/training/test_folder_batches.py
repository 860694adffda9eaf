"""Batches of annotated images: who gets which image, in which order."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.datasets import read_dataset
from models.training.augment import Augmentation
from models.training.batches import BatchPlan, FolderBatches, batches_per_epoch
from models.training.distributed import ProcessRank
from tests.support.data.annotated import write_small_coco


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_small_coco(root, "train", 31, 7)
    return root


def test_processes_share_a_batch_out(data: Path) -> None:
    images = read_dataset(data, "train").images
    plan = BatchPlan(3, 1, Augmentation(mirror=False))
    whole = next(iter(FolderBatches(images, plan)))
    parts = [next(iter(FolderBatches(images, replace(plan, process=ProcessRank(k, 2))))) for k in range(2)]
    assert [len(part.images) for part in parts] == [2, 1]
    shared = [parts[0].images[0], parts[1].images[0], parts[0].images[1]]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole.images, shared, strict=True))


def test_the_end_of_a_run_sees_whole_images_and_batches_turn_together(data: Path) -> None:
    images = read_dataset(data, "train").images
    change = Augmentation(mirror=False, turn=True, mosaic=1.0)
    batches = iter(FolderBatches(images, BatchPlan(3, 1, change, whole_from=10)))
    sizes = {(image.height, image.width) for image in images}
    series = [next(batches) for _ in range(20)]
    assert {tuple(image.shape[1:]) for batch in series for image in batch.images} == {(120, 160), (160, 120)}
    assert all(len({tuple(image.shape) for image in batch.images}) == 1 for batch in series)
    objects = sorted(len(image.boxes) for image in images)
    late = [len(target["boxes"]) for batch in series[10:] for target in batch.targets]
    assert sizes == {(120, 160), (160, 120)}
    assert set(late) <= set(objects), "a whole image has all of its objects"


def test_an_epoch_shows_every_image_once_in_one_orientation_a_batch(data: Path) -> None:
    images = read_dataset(data, "train").images
    plan = BatchPlan(3, 5, Augmentation(mirror=False))
    series = iter(FolderBatches(images, plan))
    batches = [next(series) for _ in range(batches_per_epoch(images, 3))]
    assert sum(len(batch.images) for batch in batches) == len(images) == 7
    sums = {round(float(image.sum()), 2) for batch in batches for image in batch.images}
    assert len(sums) == 7, "each image once"
    for batch in batches:
        assert len({image.shape[1] > image.shape[2] for image in batch.images}) == 1
    later = next(iter(FolderBatches(images, plan, first=2)))
    assert all(torch.equal(a, b) for a, b in zip(later.images, batches[2].images, strict=True))


def test_a_damaged_image_is_left_out_of_a_run(data: Path, tmp_path: Path) -> None:
    write_small_coco(tmp_path, "train", 33, 4)
    file = tmp_path / "train" / "1.png"
    file.write_bytes(file.read_bytes()[:2000])
    images = read_dataset(tmp_path, "train").images
    series = iter(FolderBatches(images, BatchPlan(2, 1, Augmentation())))
    for _ in range(batches_per_epoch(images, 2)):
        assert all(image.isfinite().all() for image in next(series).images)
