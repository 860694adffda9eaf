"""Memory and the start: `python -m bench.memory`.

Growth: requests for images of many sizes to the service, its RSS after every few hundred of them, and the
slope over the second half, when every cache is full. Size: RSS after the same load, of the service and of the
plain FastAPI app with torchvision's own forward of the same model (and with our detector, to separate the
model's share from the server's). Start: from the start of the process to the first ready answer, with an
empty compile cache and then with the cache that this start filled. RSS is summed over a server's processes.
"""

import argparse
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.harness import cards, pictures
from bench.harness.contest import Scenario, start_peer
from bench.harness.load import LoadPlan, Target, measure
from bench.harness.machine import describe_machine, title
from bench.harness.options import add_model, add_threads, command_line, print_table, write_json
from bench.harness.pictures import SHAPES
from bench.harness.processes import Server
from bench.harness.service import serving
from bench.peers.catalogue import SERVICE, select_peers

PLAIN = "fastapi"  # the app without a serving framework
SIDES = (64, 1200)  # px, of the drawn sizes
CONNECTIONS = 8
STEADY = 0.02  # growth over the second half, as a share of RSS, that counts as none


@dataclass(frozen=True)
class Sample:
    """RSS of a server after so many requests, and how many of the last ones failed."""

    server: str
    engine: str
    requests: int
    resident_mebibytes: float
    errors: int


def sizes(count: int, seed: int = 1) -> list[tuple[int, int]]:
    """The mixture's shapes, one of them 12 megapixels, and random ones up to `count`, shuffled: (w, h)."""
    draw = random.Random(seed)  # noqa: S311  # sizes, not secrets
    shapes = list(SHAPES.values())
    shapes += [(draw.randint(*SIDES), draw.randint(*SIDES)) for _ in range(count - len(shapes))]
    draw.shuffle(shapes)
    return shapes


def sample_growth(
    target: Target, server: Server, images: Sequence[Path], arguments: argparse.Namespace
) -> list[Sample]:
    """A sample after every `arguments.every` requests."""
    samples = []
    for done in range(arguments.every, arguments.requests + 1, arguments.every):
        errors = _send(target, images, arguments.every)
        samples.append(Sample(SERVICE, "ours", done, server.resident_mebibytes(), errors))
        print(f"{done} requests: {samples[-1].resident_mebibytes:.0f} MiB", file=sys.stderr, flush=True)
    return samples


def _send(target: Target, images: Sequence[Path], count: int) -> int:
    """So many requests at full speed; how many failed."""
    return measure(target, images, LoadPlan(CONNECTIONS, math.inf, requests=count)).error_count


def growth(samples: Sequence[Sample]) -> dict[str, float | bool]:
    """Over the second half: the slope in MiB per 1000 requests, the growth, and whether it counts as none."""
    half = samples[len(samples) // 2 :] if len(samples) > 2 else samples
    requests, resident = [one.requests for one in half], [one.resident_mebibytes for one in half]
    slope = statistics.linear_regression(requests, resident).slope if len(half) > 1 else 0.0
    grown = slope * (requests[-1] - requests[0])
    steady = grown <= STEADY * statistics.median(resident)
    return {"mebibytes_per_1000": slope * 1000, "grown_mebibytes": grown, "steady": steady}


def describe_growth(growth: dict[str, float | bool]) -> str:
    """One line."""
    steady = "steady" if growth["steady"] else "IT GROWS"
    slope, grown = growth["mebibytes_per_1000"], growth["grown_mebibytes"]
    return f"second half: {slope:+.1f} MiB per 1000 requests, {grown:+.0f} MiB in all: {steady}"


def measure_all(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, ready for JSON."""
    shapes = enumerate(sizes(arguments.images))
    images = [pictures.write(folder / f"{index}.jpg", size, index) for index, size in shapes]
    card, cache = cards.find(arguments.model, folder), folder / "cache"
    settings = {"model": card, "inference_threads": arguments.threads, "cache_dir": cache}
    with serving(**settings, timeout_ms=600_000) as (target, server):
        samples = sample_growth(target, server, images, arguments)
    starts = [server.start_seconds]  # the cache was empty
    for _ in range(arguments.starts):
        with serving(**settings) as (_target, server):
            starts.append(server.start_seconds)
    compared = [one for one in samples if one.requests >= min(arguments.compare, samples[-1].requests)][:1]
    compared += _compare(
        Scenario(card, images[0], (), (), math.inf, Path(), arguments.threads), images, compared[0]
    )
    return {
        "samples": [asdict(one) for one in samples],
        "growth": growth(samples),
        "sizes": [asdict(one) for one in compared],
        "start_seconds": {"cold": starts[0], "warm": statistics.median(starts[1:] or [math.nan])},
    }


def _compare(scenario: Scenario, images: Sequence[Path], ours: Sample) -> Iterator[Sample]:
    """The plain app with each engine, after as many requests as ours."""
    [plain] = select_peers([PLAIN])
    for engine in plain.engines:
        with start_peer(plain, engine, scenario) as (target, server):
            errors = _send(target, images, ours.requests)
            yield Sample(PLAIN, engine, ours.requests, server.resident_mebibytes(), errors)


def print_results(results: dict[str, Any], heading: str) -> None:
    """Growth, sizes, and the start."""
    columns = {"requests": "{requests}", "RSS MiB": "{resident_mebibytes:.0f}", "not 200": "{errors}"}
    print_table(heading, columns, results["samples"])
    ours = results["sizes"][0]["resident_mebibytes"]
    rows = [{**one, "ratio": ours / one["resident_mebibytes"]} for one in results["sizes"]]
    columns = {"server": "{server}", "model": "{engine}", **columns, "ours over it": "{ratio:.2f}"}
    print_table("The same load on each", columns, rows)
    times = results["start_seconds"].items()
    starts = [{"cache": f"{name} compile cache", "seconds": seconds} for name, seconds in times]
    print_table("Start to ready", {"": "{cache}", "s": "{seconds:.1f}"}, starts)
    print(describe_growth(results["growth"]))


def main() -> None:
    """Print three tables, and the growth in words."""
    arguments, machine = _arguments(), describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        results = measure_all(arguments, Path(folder))
    load = f"{arguments.images} images of as many sizes, {CONNECTIONS} connections"
    print_results(results, f"{arguments.model}, {load}; {title(machine)}")
    write_json(arguments.json, machine, model=arguments.model, **results)


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    add_model(parser)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=500, help="requests between two samples of RSS")
    parser.add_argument("--images", type=int, default=40, help="of as many sizes; 5 at least")
    parser.add_argument("--compare", type=int, default=1000, help="requests after which servers are compared")
    parser.add_argument("--starts", type=int, default=3, help="with a warm cache")
    add_threads(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
