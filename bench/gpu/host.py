"""How many images the host can feed to a GPU: `python -m bench.gpu.host`.

First JPEG bytes to what is uploaded, on one thread, on a thread for each core, and in a process for each
core, in turns; a process writes into memory that it could share with the GPU's process. Then requests over
HTTP to the whole service with a device that takes no time (bench.gpu.null_detector), closed loops. Medians
of the rounds.
"""

import argparse
import mmap
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.gpu.null_detector import upload
from bench.harness import pictures
from bench.harness.load import LoadPlan, measure
from bench.harness.machine import describe_machine, title
from bench.harness.measuring import interleaved
from bench.harness.options import Columns, command_line, print_table, write_json
from bench.harness.service import serving
from models.images.decoder import Limits, decode
from models.pipeline.canvas import prepare
from models.zoo.catalogue import find_card

CONNECTIONS = (1, 16, 64)
SIZES = {"640x480": (640, 480), "12 MP": (4000, 3000)}
SHARED_BYTES = 64 << 20  # holds what is uploaded for a canvas of 800x1333, some 20 MB
LIMITS = Limits(max_pixels=50_000_000)
COLUMNS: Columns = {
    "image": "{image}",
    "way": "{way}",
    "images/s": "{images_per_second:.0f}",
    "p50, ms": "{p50_ms:.1f}",
    "over threads": "{ratio:.2f}",
}

_shared: mmap.mmap | None = None  # of each process


def to_upload(jpeg: bytes, limits: tuple[int, int]) -> tuple[int, int]:
    """Decode and gather, with a copy in new memory; the canvas's key."""
    return prepare(decode(jpeg, LIMITS), *limits, upload).key


def to_shared_memory(jpeg: bytes, limits: tuple[int, int]) -> tuple[int, int]:
    """Decode and gather, with a copy in the memory of this process that another one may read."""
    global _shared  # one for each process, made by its first task
    _shared = _shared or mmap.mmap(-1, SHARED_BYTES)
    place, used = torch.frombuffer(_shared, dtype=torch.uint8), 0

    def send(tensor: Tensor) -> Tensor:
        nonlocal used
        data = tensor.contiguous().view(-1).view(torch.uint8)
        place[used : used + len(data)].copy_(data)
        used += len(data)
        return tensor.to("meta")

    return prepare(decode(jpeg, LIMITS), *limits, send).key


Task = Callable[[bytes, tuple[int, int]], tuple[int, int]]


def rate(
    executor: Executor, task: Task, jpeg: bytes, limits: tuple[int, int], count: int, _: int = 0
) -> float:
    """Images a second."""
    started = time.perf_counter()
    list(executor.map(task, [jpeg] * count, [limits] * count))
    return count / (time.perf_counter() - started)


@contextmanager
def executors(cores: int) -> Iterator[dict[str, tuple[Executor, Task]]]:
    """One thread, threads, processes, each with its task."""
    with ExitStack() as stack:
        one, threads = (stack.enter_context(ThreadPoolExecutor(count)) for count in (1, cores))
        processes = ProcessPoolExecutor(cores, get_context("spawn"), torch.set_num_threads, (1,))
        stack.enter_context(processes)
        yield {
            "1 thread": (one, to_upload),
            "threads": (threads, to_upload),
            "processes": (processes, to_shared_memory),
        }


def direct(arguments: argparse.Namespace, cores: int) -> Iterator[dict[str, Any]]:
    """A row for each way of decoding and each size of image."""
    limits = find_card(arguments.model, None).canvas_limits()
    with executors(cores) as ways:
        for name, size in SIZES.items():
            runs = {
                way: partial(rate, executor, task, pictures.jpeg(size), limits, arguments.images)
                for way, (executor, task) in ways.items()
            }
            rates = interleaved(runs, range(1 + arguments.rounds))  # the first starts threads and processes
            reached = {way: median(values[1:]) for way, values in rates.items()}
            for way, value in reached.items():
                yield {
                    "image": name,
                    "way": way,
                    "images_per_second": value,
                    "ratio": value / reached["threads"],
                }


def over_http(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each number of connections."""
    command = [sys.executable, "-m", "bench.gpu.null_detector", arguments.model]
    with tempfile.TemporaryDirectory() as folder, serving(command) as (target, _):
        image = pictures.write(Path(folder) / "scene.jpg")
        for connections in CONNECTIONS:
            plan = LoadPlan(connections, arguments.seconds)
            results = [measure(target, [image], plan) for _ in range(arguments.rounds)]
            yield {
                "image": "640x480",
                "way": f"HTTP, {connections} connections",
                "images_per_second": median(result.images_per_second for result in results),
                "p50_ms": median(result.p50_ms for result in results),
                "errors": sum(result.error_count for result in results),
            }


def main() -> None:
    """Print the rates."""
    arguments, machine = _arguments(), describe_machine()
    torch.set_num_threads(1)
    rows = [*direct(arguments, int(machine["cores"])), *over_http(arguments)]
    print_table(title(machine), COLUMNS, rows, f"Canvases of {arguments.model}; no device computes.")
    write_json(arguments.json, machine, rows=rows)


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--model", default="coco-r50-fpn", help="name or path of a card")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=100, help="in each round of a way")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load over HTTP")
    return parser.parse_args()


if __name__ == "__main__":
    main()
