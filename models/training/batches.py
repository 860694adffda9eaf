"""Batches for the training loop: images of one orientation, so that there is little padding."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import BaseContext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from models.datasets import AnnotatedImage, DatasetError
from models.images.decoder import ImageError, Limits, decode
from models.training.augment import Augmentation, Sample, augment, mosaic, to_sample, transposed
from models.training.distributed import SINGLE_PROCESS, ProcessRank


@dataclass(frozen=True, eq=False)
class Batch:
    """Images (3, H, W) in 0..1 of mixed sizes; per image boxes (N, 4) xyxy px and labels (N,) from 1."""

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    damaged: dict[str, str] = field(default_factory=dict)  # files in whose place others were taken, and why
    error: str | None = None  # why there are no images, and no further batches


logger = logging.getLogger(__name__)

SHOWN = 3  # reasons in an error
LIMITS = Limits(max_pixels=100_000_000)  # the images are the user's own


@dataclass(frozen=True)
class BatchPlan:
    """How a data set is divided into batches; from batch `whole_from` on, images are not cut."""

    batch_size: int
    seed: int
    augmentation: Augmentation
    whole_from: int | None = None
    process: ProcessRank = SINGLE_PROCESS  # several processes share the images of each batch

    def change(self, number: int) -> Augmentation:
        """The augmentation of that batch."""
        whole = self.whole_from is not None and number >= self.whole_from
        return self.augmentation.whole if whole else self.augmentation


def batches_per_epoch(images: tuple[AnnotatedImage, ...], batch_size: int) -> int:
    """The number of batches in which every image appears once; the last of an orientation may be smaller."""
    wide = sum(image.width >= image.height for image in images)
    return sum(-(-count // batch_size) for count in (wide, len(images) - wide))


class FolderBatches(IterableDataset[Batch]):
    """Endless epochs over a data set from batch `first` on; the number of a batch determines its content."""

    def __init__(self, images: tuple[AnnotatedImage, ...], plan: BatchPlan, first: int = 0) -> None:
        self._images = images
        self._plan = plan
        self._first = first
        self._damaged: dict[str, str] = {}  # since the last batch

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches without end."""
        per_epoch = batches_per_epoch(self._images, self._plan.batch_size)
        number = self._first
        while True:
            epoch, within = divmod(number, per_epoch)
            for chosen in self._epoch(epoch)[within:]:
                try:
                    yield self._batch(number, chosen)
                except DatasetError as error:  # raised from here, its text would be a worker's traceback
                    yield Batch([], [], error=str(error))
                    return
                number += 1

    def _epoch(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """The indices of an epoch's batches: shuffled, grouped by orientation, batches shuffled."""
        rng = np.random.default_rng([self._plan.seed, 0, epoch])
        order = rng.permutation(len(self._images))
        wide = np.array([self._images[k].width >= self._images[k].height for k in order], bool)
        groups = [order[wide], order[~wide]]
        size = self._plan.batch_size
        batches = [group[start : start + size] for group in groups for start in range(0, len(group), size)]
        return [batches[k] for k in rng.permutation(len(batches))]

    def _batch(self, number: int, chosen: npt.NDArray[np.int64]) -> Batch:
        process = self._plan.process
        key = [self._plan.seed, 1, number, *([process.rank] if process.rank else [])]
        chosen = chosen[process.rank % len(chosen) :: process.count]
        change = self._plan.change(number)
        with _seeded(key):
            samples = [self._sample(index, change) for index in chosen.tolist()]
            if change.turn and torch.rand(()) < 0.5:  # all of them, so that a batch keeps one orientation
                samples = [transposed(sample) for sample in samples]
        damaged, self._damaged = self._damaged, {}
        return Batch([_image(sample) for sample in samples], [_target(sample) for sample in samples], damaged)

    def _sample(self, index: int, change: Augmentation) -> Sample:
        if torch.rand(()) >= change.mosaic:
            return augment(self._read(index), change)
        others = torch.randint(len(self._images), (3,)).tolist()
        return mosaic([self._read(k) for k in (index, *others)], change)

    def _read(self, index: int) -> Sample:
        """The image, or the next readable one, as a damaged file must not end a long run."""
        for image in (*self._images[index:], *self._images[:index]):
            try:
                pixels = decode(image.path.read_bytes(), LIMITS).pixels
            except (ImageError, OSError) as error:
                self._damaged[str(image.path)] = str(error)
                continue
            return to_sample(pixels, image.boxes[~image.crowd], image.labels[~image.crowd])
        reasons = "".join(f"\n  {file}: {why}" for file, why in list(self._damaged.items())[:SHOWN])
        raise DatasetError(f"none of the {len(self._images)} images can be read any more{reasons}")


def folder_loader(images: tuple[AnnotatedImage, ...], plan: BatchPlan, first: int) -> DataLoader[Batch]:
    """Read and augment images in another process during training."""
    return series_loader(FolderBatches(images, plan, first))


def read_batches(images: tuple[AnnotatedImage, ...], plan: BatchPlan, first: int) -> Iterator[Batch]:
    """The batches of a data set from `first` on; each damaged image is logged once.

    Raises DatasetError if no image can be read.
    """
    logged: set[str] = set()
    for batch in folder_loader(images, plan, first):
        for file in batch.damaged.keys() - logged:
            logger.warning("%s is left out, as it cannot be read: %s", file, batch.damaged[file])
        logged |= batch.damaged.keys()
        if batch.error is not None:
            raise DatasetError(batch.error)
        yield batch


def _processes() -> BaseContext:
    """Starts processes from one that has imported this module and nothing else.

    A fork of the training process may end it: OpenVINO's threads do not survive in the copy.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def series_loader(series: IterableDataset[Batch]) -> DataLoader[Batch]:
    """Read a series of batches in another process during training."""
    # One worker: each would yield the whole series, whose order is part of the run.
    return DataLoader(
        series,
        batch_size=None,
        num_workers=1,
        multiprocessing_context=_processes(),
        prefetch_factor=4,
        generator=torch.Generator(),  # the global one would break an exact resume
    )


@contextmanager
def _seeded(key: list[int]) -> Iterator[None]:
    """Seed torch's CPU generator with `key` inside the block; afterwards its state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(np.random.default_rng(key).integers(2**63)))
        yield


def _image(sample: Sample) -> Tensor:
    pixels: Tensor = sample.pixels.as_subclass(Tensor).float().div(255)
    return pixels


def _target(sample: Sample) -> dict[str, Tensor]:
    return {"boxes": sample.boxes.as_subclass(Tensor), "labels": sample.labels}
