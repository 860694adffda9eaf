"""Memory and the start: `python -m bench.memory`.

Growth: requests for images of many sizes through the real service, its RSS every so many of them, and the
slope over the second half, when every cache has filled. Size: RSS after the same load, ours and the plain
FastAPI app with torchvision's own forward of the same model (and with our detector, to tell the model's
share from the server's). Start: from the start of the process to the first ready answer, with an empty
compile cache and then with what that start left there. RSS is summed over a server's processes.
"""

import argparse
import math
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.harness import cards, contest, pictures
from bench.harness.contest import Course
from bench.harness.load import Plan, Target, measure
from bench.harness.machine import describe_machine, title
from bench.harness.options import command_line, write_json
from bench.harness.processes import Server, free_port, running
from bench.harness.service import environment, ready, serve_command
from bench.mix import SHAPES
from bench.peers.catalogue import SERVICE, Peer, chosen

PLAIN = "fastapi"  # the app that people write first
SIDES = (64, 1200)  # px, of the drawn sizes
CONNECTIONS = 8
STEADY = 0.02  # growth over the second half, as a share of RSS, that is no growth
READY_SECONDS = 240.0


@dataclass(frozen=True)
class Sample:
    """RSS in MiB after so many requests, and how many of them were not answered by 200."""

    requests: int
    resident_mebibytes: float
    errors: int


@dataclass(frozen=True)
class Size:
    """One server after the load that all had."""

    server: str
    engine: str
    requests: int
    resident_mebibytes: float
    errors: int


@dataclass(frozen=True)
class Start:
    """Seconds from the start of the process to ready."""

    cold: float
    warm: float


def sizes(count: int, seed: int = 1) -> list[tuple[int, int]]:
    """The mixture's shapes, one of them 12 megapixels, and drawn ones up to `count`, shuffled: (w, h)."""
    draw = random.Random(seed)  # noqa: S311  # sizes, not secrets
    found = list(SHAPES.values())
    found += [(draw.randint(*SIDES), draw.randint(*SIDES)) for _ in range(count - len(found))]
    draw.shuffle(found)
    return found


def grow(target: Target, server: Server, images: Sequence[Path], given: argparse.Namespace) -> list[Sample]:
    """Ask, and look at the memory after every `given.every` requests."""
    samples = []
    for done in range(given.every, given.requests + 1, given.every):
        errors = _ask(target, images, given.every)
        samples.append(Sample(done, server.resident_mebibytes(), errors))
        print(f"{done} requests: {samples[-1].resident_mebibytes:.0f} MiB", file=sys.stderr, flush=True)
    return samples


def _ask(target: Target, images: Sequence[Path], count: int) -> int:
    """So many requests at full speed; how many failed."""
    found = measure(target, images, Plan(CONNECTIONS, math.inf, requests=count))
    return sum(found.errors.values())


def growth(samples: Sequence[Sample]) -> dict[str, float | bool]:
    """Over the second half: the slope in MiB per 1000 requests, the growth, and whether that is none."""
    half = samples[len(samples) // 2 :] if len(samples) > 2 else samples
    asked, held = [one.requests for one in half], [one.resident_mebibytes for one in half]
    slope = statistics.linear_regression(asked, held).slope if len(half) > 1 else 0.0
    grown = slope * (asked[-1] - asked[0])
    steady = grown <= STEADY * statistics.median(held)
    return {"mebibytes_per_1000": slope * 1000, "grown_mebibytes": grown, "steady": steady}


def after(peer: Peer, engine: str, course: Course, images: Sequence[Path], count: int) -> Size:
    """Start a peer, ask it as often as ours was asked, and look at its memory."""
    with contest.up(peer, engine, course) as (target, server):
        errors = _ask(target, images, count)
        return Size(peer.name, engine, count, server.resident_mebibytes(), errors)


def start(model: str, threads: int, again: int) -> Start:
    """Once with an empty cache, then `again` times with what is in it; the median of those."""
    with tempfile.TemporaryDirectory(prefix="bench-") as cache:
        times = [_until_ready(model, threads, Path(cache)) for _ in range(1 + again)]
    return Start(times[0], statistics.median(times[1:] or [math.nan]))


def _until_ready(model: str, threads: int, cache: Path) -> float:
    port = free_port()
    settings = environment(port, model=model, inference_threads=str(threads), cache_dir=str(cache))
    with running(serve_command(), settings, lambda: ready(port), READY_SECONDS) as server:
        return server.start_seconds


def measure_all(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, ready for JSON."""
    images = [
        pictures.write(folder / f"{index}.jpg", size, index) for index, size in enumerate(sizes(given.images))
    ]
    card = cards.find(given.model, folder)
    course = Course(card, images[0], (CONNECTIONS,), (), math.inf, Path(), given.threads)
    [service, plain] = chosen([SERVICE, PLAIN])
    with contest.up(service, "ours", course) as (target, server):
        samples = grow(target, server, images, given)
    at = next(one for one in samples if one.requests >= min(given.compare, samples[-1].requests))
    compared = [Size(SERVICE, "ours", at.requests, at.resident_mebibytes, at.errors)]
    compared += [after(plain, engine, course, images, at.requests) for engine in plain.engines]
    return {
        "samples": [asdict(one) for one in samples],
        "growth": growth(samples),
        "sizes": [asdict(one) for one in compared],
        "start_seconds": asdict(start(card, given.threads, given.starts)) if given.starts else None,
    }


def main() -> None:
    """Print what was asked in three tables, and the verdict in words."""
    given, machine = _arguments(), describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = measure_all(given, Path(folder))
    console = Console(width=150)
    heading = f"{given.model}, {given.images} images of as many sizes, {CONNECTIONS} connections"
    console.print(f"{heading}; {title(machine)}")
    for table in tables(found):
        console.print(table)
    print(verdict(found["growth"]))
    write_json(given.json, {"machine": machine, "model": given.model, **found})


def verdict(found: dict[str, float | bool]) -> str:
    """One line about the growth."""
    said = "steady" if found["steady"] else "IT GROWS"
    slope, grown = found["mebibytes_per_1000"], found["grown_mebibytes"]
    return f"second half: {slope:+.1f} MiB per 1000 requests, {grown:+.0f} MiB in all: {said}"


def tables(found: dict[str, Any]) -> Iterator[Table]:
    """Growth, sizes, and the start where it was measured."""
    shown = Table("requests", "RSS MiB", "not 200")
    for one in found["samples"]:
        shown.add_row(str(one["requests"]), f"{one['resident_mebibytes']:.0f}", str(one["errors"]))
    yield shown
    first = found["sizes"][0]["resident_mebibytes"]
    shown = Table("server", "model", "requests", "RSS MiB", "ours over it")
    for one in found["sizes"]:
        resident = one["resident_mebibytes"]
        cells = str(one["requests"]), f"{resident:.0f}", f"{first / resident:.2f}"
        shown.add_row(one["server"], one["engine"], *cells)
    yield shown
    if times := found["start_seconds"]:
        shown = Table("start to ready", "s")
        shown.add_row("empty compile cache", f"{times['cold']:.1f}")
        shown.add_row("warm compile cache", f"{times['warm']:.1f}")
        yield shown


def _arguments() -> argparse.Namespace:
    parser, cores = command_line(__doc__), len(os.sched_getaffinity(0))
    parser.add_argument("--model", default="shapes", help=f"name or path of a card, or {cards.HEAVY}")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=500, help="requests from one look at RSS to the next")
    parser.add_argument("--images", type=int, default=40, help="of as many sizes; 5 at least")
    parser.add_argument("--compare", type=int, default=1000, help="requests after which servers are compared")
    parser.add_argument("--starts", type=int, default=3, help="with a warm cache; 0: leave the start out")
    parser.add_argument("--threads", type=int, default=cores, help=f"of every model; {cores}: one a core")
    return parser.parse_args()


if __name__ == "__main__":
    main()
