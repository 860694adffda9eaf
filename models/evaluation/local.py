"""Answers of a model in this process: decoded ahead by threads, detected in batches of one canvas size."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.detections import Detections
from models.detector import Detector, Job
from models.evaluation.answers import Answer, ahead, attempt
from models.evaluation.coco import as_sent
from models.images.decoder import Image, Limits, decode
from models.options import Options
from models.tiling.tiled_detect import detect_tiled
from models.tiling.tiles import Tiling, TooManyTiles

GPU_BATCH = 8  # a CPU gains nothing from batches
READERS = 4  # threads that decode; more would only fill the memory

_Held = dict[tuple[int, int], list[tuple[int, Job]]]


def best_batch(detector: Detector) -> int:
    """Images worth a batch on the detector's device."""
    return GPU_BATCH if detector.device.startswith("cuda") else 1


def ask_detector(
    detector: Detector, files: Sequence[Path], options: Options, limits: Limits, batch: int
) -> Iterator[Answer]:
    """The answers as they come; each names its file. MemoryError: the device has no room for one image.

    At most 2 * `batch` canvases wait for others of their size.
    """

    def prepare(file: Path) -> Job:
        image = decode(file.read_bytes(), limits, detector.card.canvas_limits())  # as it is served
        return Job(detector.prepare(image), options)

    held: _Held = {}
    readers = min(READERS, os.cpu_count() or 1)
    for index, job in enumerate(ahead(lambda file: attempt(prepare, file), files, readers)):
        if isinstance(job, str):
            yield Answer(index, Detections.empty(), job)
            continue
        held.setdefault(job.canvas.key, []).append((index, job))
        if (full := _full(held, batch)) is not None:
            yield from _detect(detector, held.pop(full))
    for group in held.values():
        yield from _detect(detector, group)


def ask_in_tiles(
    detector: Detector, files: Sequence[Path], options: Options, limits: Limits, tiling: Tiling
) -> Iterator[Answer]:
    """As `ask_detector`, of images in tiles: as many of one at a time as are worth a batch."""

    def read(file: Path) -> Image | str:
        return attempt(lambda path: decode(path.read_bytes(), limits), file)

    for index, image in enumerate(ahead(read, files, min(READERS, os.cpu_count() or 1))):
        if isinstance(image, str):
            yield Answer(index, Detections.empty(), image)
            continue
        try:
            found = detect_tiled(detector, image, options, tiling, batch=best_batch(detector))
        except TooManyTiles as error:
            yield Answer(index, Detections.empty(), str(error))
            continue
        yield Answer(index, as_sent(found))


def _full(held: _Held, batch: int) -> tuple[int, int] | None:
    """The canvas size to detect next: one with a whole batch, or the fullest where too many wait."""
    fullest = max(held, key=lambda key: len(held[key]))
    waiting = sum(len(group) for group in held.values())
    return fullest if len(held[fullest]) >= batch or waiting >= 2 * batch else None


def _detect(detector: Detector, group: list[tuple[int, Job]]) -> Iterator[Answer]:
    """The group's answers; halved where the device has no room for all of it."""
    try:
        found = detector.detect([job for _, job in group])
    except MemoryError:
        if len(group) == 1:
            raise
        found = None
    if found is None:  # past the except, whose traceback holds on to what filled the device
        half = len(group) // 2
        yield from _detect(detector, group[:half])
        yield from _detect(detector, group[half:])
        return
    for (index, _), detections in zip(group, found, strict=True):
        yield Answer(index, as_sent(detections))
