"""Detections of image files by a model in this process: threads decode, batches share one canvas size."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.detections import Detections
from models.detector import Detector, Job
from models.evaluation.candidates import KEEP_ALL, MAX_PROPOSALS, suppress
from models.evaluation.coco import as_sent
from models.evaluation.predictions import THREADS, ImageDetections, Refused, map_files
from models.images.decoder import Image, Limits, decode
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
    """As `detect_files`, with each image cut into tiles; a batch holds tiles of one image."""
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


def detect_files_flipped(
    detector: Detector, files: Sequence[Path], options: Options, limits: Limits
) -> Iterator[ImageDetections]:
    """As `detect_files`, in each image and its mirror image; NMS merges the detections of both."""
    images = map_files(lambda file: decode(file.read_bytes(), limits), files, readers())
    every = replace(options, nms_threshold=KEEP_ALL, max_detections=MAX_PROPOSALS * len(detector.card.labels))
    for index, image in enumerate(images):
        if isinstance(image, str):
            yield ImageDetections(index, Detections.empty(), image)
            continue
        found = [
            detector.detect([Job(detector.prepare(each), every)])[0] for each in (image, _mirrored(image))
        ]
        merged = suppress(_joined(found[0], _mirrored_back(found[1], image.width)), options.nms_threshold)
        yield ImageDetections(index, as_sent(merged))


def _mirrored(image: Image) -> Image:
    return Image(np.ascontiguousarray(image.pixels[:, ::-1]), image.format)


def _mirrored_back(found: Detections, width: int) -> Detections:
    boxes = found.boxes.copy()
    boxes[:, [0, 2]] = width - found.boxes[:, [2, 0]]
    return Detections(boxes, found.labels, found.scores)


def _joined(one: Detections, other: Detections) -> Detections:
    """The detections of both, best first."""
    scores = np.concatenate([one.scores, other.scores])
    order = np.argsort(-scores, kind="stable")
    boxes, labels = np.concatenate([one.boxes, other.boxes]), np.concatenate([one.labels, other.labels])
    return Detections(boxes[order], labels[order], scores[order])


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
