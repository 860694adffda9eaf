"""Asking for the detections of many image files: some ahead of the others, never all at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from models.detections import Detections
from models.images.decoder import ImageError

FLOOR = 0.05  # scores below it are not asked for: torchvision's own floor for evaluation
MOST_DETECTIONS = 100  # an image, as COCO counts

T = TypeVar("T")
R = TypeVar("R")


class Unanswered(Exception):
    """One image has no detections, through a fault of its own; the text says why."""


@dataclass(frozen=True, eq=False)
class Answer:
    """Detections of file `index`; where it has none for a `fault` of the image, they are empty."""

    index: int
    detections: Detections
    fault: str | None = None


def ahead(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """`work` of each item, in order; threads begin up to twice as many items as they are, and no more."""
    with ThreadPoolExecutor(threads, "ahead") as pool:
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


def attempt(work: Callable[[Path], R], file: Path) -> R | str:
    """`work` of a file, or what is wrong with the file."""
    try:
        return work(file)
    except OSError as error:
        return error.strerror or str(error)
    except (ImageError, Unanswered) as error:
        return str(error)


def ask_each(
    detect: Callable[[Path], Detections], files: Iterable[Path], threads: int = 4
) -> Iterator[Answer]:
    """The answers of a detector that takes one file at a time, from several threads; in order."""
    found = ahead(lambda file: attempt(detect, file), files, threads)
    for index, answer in enumerate(found):
        if isinstance(answer, str):
            yield Answer(index, Detections.empty(), answer)
        else:
            yield Answer(index, answer)
