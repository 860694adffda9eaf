"""Detections of many image files, with bounded read-ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from models.detections import Detections
from models.images.decoder import ImageError

FLOOR = 0.05  # lowest score that is evaluated: torchvision's own floor
MOST_DETECTIONS = 100  # an image, as COCO counts
THREADS = 4  # that read, or ask a service; more only fill the memory

T = TypeVar("T")
R = TypeVar("R")


class DetectionFailed(Exception):
    """An image has no detections because of a fault of its own; the text is the reason."""


@dataclass(frozen=True, eq=False)
class ImageDetections:
    """Detections of file `index`; empty where the image has a `fault`."""

    index: int
    detections: Detections
    fault: str | None = None


def map_ahead(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """The result of `work` for each item, in order; at most 2 * `threads` items are begun ahead."""
    with ThreadPoolExecutor(threads, "map_ahead") as pool:
        begun: deque[Future[R]] = deque()
        try:
            for item in items:
                if len(begun) == 2 * threads:
                    yield begun.popleft().result()
                begun.append(pool.submit(work, item))
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def map_files(work: Callable[[Path], R], files: Iterable[Path], threads: int = THREADS) -> Iterator[R | str]:
    """The result of `work` for each file, in order, or what is wrong with the file."""
    return map_ahead(lambda file: result_or_fault(work, file), files, threads)


def result_or_fault(work: Callable[[Path], R], file: Path) -> R | str:
    """The result of `work` for a file, or the text of what is wrong with the file."""
    try:
        return work(file)
    except OSError as error:
        return error.strerror or str(error)
    except (ImageError, DetectionFailed) as error:
        return str(error)


def detect_each(detect: Callable[[Path], Detections], files: Iterable[Path]) -> Iterator[ImageDetections]:
    """The detections in each file, in order, from a detector of single files that several threads call."""
    for index, result in enumerate(map_files(detect, files)):
        if isinstance(result, str):
            yield ImageDetections(index, Detections.empty(), result)
        else:
            yield ImageDetections(index, result)
