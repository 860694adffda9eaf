"""Batches: their number alone decides what is in them, which process gets which image, in which order."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.datasets import AnnotatedImage, read_dataset
from models.shapes.batches import SceneBatches
from models.training.augment import Augmentation
from models.training.batches import Batch, BatchPlan, FolderBatches, batches_per_epoch, folder_loader
from models.training.distributed import ProcessRank
from tests.support.data.annotated import write_small_coco

Images = tuple[AnnotatedImage, ...]

pytestmark = pytest.mark.network

CHANGE = Augmentation(flip=True, turn=True, zoom=(0.5, 2.0), colour=0.3, mosaic=0.5)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    root = tmp_path_factory.mktemp("data")
    write_small_coco(root, "train", 31, 7)
    return read_dataset(root, "train").images


def same(ours: Batch, theirs: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours.images, theirs.images, strict=True)) and all(
        torch.equal(a[name], b[name]) for a, b in zip(ours.targets, theirs.targets, strict=True) for name in a
    )


def test_the_number_alone_decides_what_is_in_a_batch(images: Images) -> None:
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


def test_processes_share_a_batch_out(images: Images) -> None:
    plan = BatchPlan(3, 1, Augmentation(mirror=False))
    whole = next(iter(FolderBatches(images, plan)))
    parts = [next(iter(FolderBatches(images, replace(plan, process=ProcessRank(k, 2))))) for k in range(2)]
    assert [len(part.images) for part in parts] == [2, 1]
    shared = [parts[0].images[0], parts[1].images[0], parts[0].images[1]]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole.images, shared, strict=True))


def test_the_end_of_a_run_sees_whole_images_and_batches_turn_together(images: Images) -> None:
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


def test_an_epoch_shows_every_image_once_in_one_orientation_a_batch(images: Images) -> None:
    plan = BatchPlan(3, 5, Augmentation(mirror=False))
    series = iter(FolderBatches(images, plan))
    batches = [next(series) for _ in range(batches_per_epoch(images, 3))]
    assert sum(len(batch.images) for batch in batches) == len(images) == 7
    sums = {round(float(image.sum()), 2) for batch in batches for image in batch.images}
    assert len(sums) == 7, "each image once"
    for batch in batches:
        assert len({image.shape[1] > image.shape[2] for image in batch.images}) == 1


def test_a_damaged_image_is_left_out_of_a_run(tmp_path: Path) -> None:
    write_small_coco(tmp_path, "train", 33, 4)
    file = tmp_path / "train" / "1.png"
    file.write_bytes(file.read_bytes()[:2000])
    images = read_dataset(tmp_path, "train").images
    series = iter(FolderBatches(images, BatchPlan(2, 1, Augmentation())))
    for _ in range(batches_per_epoch(images, 2)):
        assert all(image.isfinite().all() for image in next(series).images)


def test_scene_batches_hold_one_orientation_and_can_start_anywhere() -> None:
    series = iter(SceneBatches(seed=3, batch_size=2))
    first, second = next(series), next(series)
    assert all(image.shape[2] >= image.shape[1] for image in first.images)
    assert all(image.shape[1] >= image.shape[2] for image in second.images)
    assert same(next(iter(SceneBatches(seed=3, batch_size=2, first_batch=1))), second)
    for image, target in zip(first.images, first.targets, strict=True):
        assert (target["boxes"][:, 2] <= image.shape[2]).all()
        assert (target["boxes"][:, 3] <= image.shape[1]).all()
