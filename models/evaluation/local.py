"""Detections of image files by a model in this process: threads decode, batches share one canvas size."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.detections import Detections
from models.detector import Detector, Job
from models.evaluation.coco import as_sent
from models.evaluation.predictions import THREADS, ImageDetections, Refused, map_files
from models.images.decoder import Limits, decode
from models.options import Options
from models.tiling.tiled_detect import detect_tiled
from models.tiling.tiles import Tiling, TooManyTiles

GPU_BATCH = 8  # a CPU is no faster with batches

_Pending = dict[tuple[int, int], list[tuple[int, Job]]]


def best_batch(detector: Detector) -> int:
    """The batch size that suits the detector's device."""
    return GPU_BATCH if detector.device.startswith("cuda") else 1


def readers() -> int:
    """The number of threads that decode."""
    return min(THREADS, os.cpu_count() or 1)


def read_job(detector: Detector, file: Path, options: Options, limits: Limits) -> Job:
    """An image as a job, as it is served; raises ImageError, OSError."""
    image = decode(file.read_bytes(), limits, detector.card.draft_limits())
    return Job(detector.prepare(image), options)


def read_jobs(
    detector: Detector, files: Sequence[Path], options: Options, limits: Limits
) -> Iterator[Job | str]:
    """A job for each file, in order, or what is wrong with the file."""
    return map_files(lambda file: read_job(detector, file, options, limits), files, readers())


def detect_files(
    detector: Detector, files: Sequence[Path], options: Options, limits: Limits, batch: int
) -> Iterator[ImageDetections]:
    """The detections in the files, in the order of completion. MemoryError: one image exceeds the memory.

    At most 2 * `batch` canvases wait for others of their size.
    """
    pending: _Pending = {}
    for index, job in enumerate(read_jobs(detector, files, options, limits)):
        if isinstance(job, str):
            yield ImageDetections(index, Detections.empty(), job)
            continue
        pending.setdefault(job.canvas.key, []).append((index, job))
        if (full := _full(pending, batch)) is not None:
            yield from _detect(detector, pending.pop(full))
    for group in pending.values():
        yield from _detect(detector, group)


def detect_files_in_tiles(
    detector: Detector, files: Sequence[Path], options: Options, limits: Limits, tiling: Tiling
) -> Iterator[ImageDetections]:
    """As `detect_files`, with each image cut into tiles or flipped; a batch holds views of one image."""
    images = map_files(lambda file: decode(file.read_bytes(), limits), files, readers())
    for index, image in enumerate(images):
        if isinstance(image, str):
            yield ImageDetections(index, Detections.empty(), image)
            continue
        try:
            found = detect_tiled(detector, image, options, tiling, batch=best_batch(detector))
        except TooManyTiles as error:
            yield ImageDetections(index, Detections.empty(), Refused(error))
            continue
        yield ImageDetections(index, as_sent(found))


def _full(pending: _Pending, batch: int) -> tuple[int, int] | None:
    """The canvas size to detect next: one with a whole batch, or the fullest if too many images wait."""
    fullest = max(pending, key=lambda key: len(pending[key]))
    waiting = sum(len(group) for group in pending.values())
    return fullest if len(pending[fullest]) >= batch or waiting >= 2 * batch else None


def _detect(detector: Detector, group: list[tuple[int, Job]]) -> Iterator[ImageDetections]:
    """The detections of the group, which is halved while it exceeds the memory of the device."""
    try:
        found = detector.detect([job for _, job in group])
    except MemoryError:
        if len(group) == 1:
            raise
        found = None
    if found is None:  # outside the except block, whose traceback keeps the tensors that filled the device
        half = len(group) // 2
        yield from _detect(detector, group[:half])
        yield from _detect(detector, group[half:])
        return
    for (index, _), detections in zip(group, found, strict=True):
        yield ImageDetections(index, as_sent(detections))
