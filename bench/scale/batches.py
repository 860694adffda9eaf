"""Batches of the detector without a server, as they grow."""

import argparse
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.harness import cards, pictures
from bench.harness.measuring import interleaved
from bench.harness.options import Columns
from bench.peers.model import Ours, load
from models.detector import Job

SIZES = (1, 2, 4, 8, 16, 32)
COLUMNS: Columns = {
    "ms": "{ms:.1f}",
    "ms an image": "{ms_per_image:.1f}",
    "images/s": "{images_per_second:.1f}",
    "ratio": "{ratio:.2f}",
}


def measure(points: list[float], arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """A row a size; the sizes take turns, medians of the rounds."""
    torch.set_num_threads(arguments.threads)
    detector = load(cards.find(arguments.model, folder), arguments.threads)
    detector.warm_up(1)
    model = Ours(detector, detector.card.score_threshold)
    job = model.decode(pictures.jpeg())
    runs = {int(size): partial(_seconds, model, [job] * int(size)) for size in points}
    times = interleaved(runs, range(1 + arguments.rounds))  # the first shapes buffers
    for size, seconds in times.items():
        one = median(seconds[1:])
        yield {
            "point": size,
            "ms": one * 1000,
            "ms_per_image": one * 1000 / size,
            "images_per_second": size / one,
        }


def _seconds(model: Ours, jobs: Sequence[Job], _: int) -> float:
    started = time.perf_counter()
    model.predict(jobs)
    return time.perf_counter() - started
