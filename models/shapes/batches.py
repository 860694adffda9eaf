"""Batches of drawn scenes for training."""

from collections.abc import Iterator

import torch
from torch.utils.data import IterableDataset

from models.shapes.scenes import Scene, draw_scene
from models.training.batches import Batch


class SceneBatches(IterableDataset[Batch]):
    """Endless batches of new scenes from batch `first_batch` on, so that a run can be resumed."""

    def __init__(self, seed: int, batch_size: int, first_batch: int = 0) -> None:
        self._seed = seed
        self._batch_size = batch_size
        self._first_batch = first_batch

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches without end: even ones are landscape, odd ones portrait."""
        number = self._first_batch
        while True:
            yield _batch([_scene_of(self._seed, number, k) for k in range(self._batch_size)])
            number += 1


def _scene_of(seed: int, batch: int, k: int) -> Scene:
    """Scene k of a batch, transposed if its orientation is not the batch's."""
    scene = draw_scene(seed, batch * 1000 + k)
    height, width = scene.pixels.shape[:2]
    return scene if (width >= height) == (batch % 2 == 0) else _transposed(scene)


def _transposed(scene: Scene) -> Scene:
    """The scene mirrored at its diagonal: x and y change places; no class changes by it."""
    return Scene(scene.pixels.transpose(1, 0, 2).copy(), scene.boxes[:, [1, 0, 3, 2]].copy(), scene.labels)


def _batch(scenes: list[Scene]) -> Batch:
    images = [torch.from_numpy(scene.pixels.copy()).permute(2, 0, 1).float().div_(255) for scene in scenes]
    targets = [
        {"boxes": torch.from_numpy(scene.boxes), "labels": torch.from_numpy(scene.labels)} for scene in scenes
    ]
    return Batch(images, targets)
