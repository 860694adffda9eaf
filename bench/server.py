"""This service beside other servers around the same model: `python -m bench.server`.

Every server is started by itself, asked in a closed loop, then in an open loop at multiples of the rate that
it reached itself, and ended. "eager" is torchvision's own forward, "ours" the service's detector inside that
server: between the two lies the model's share, between servers with "ours" that of the server. "loop" is no
server at all, with one image and with a batch of 8. The second table says how far the service is ahead of
each of them: its images/s over theirs, and their p99 over its own; the loop's row is the HTTP efficiency.
"""

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.harness import cards, contest, pictures
from bench.harness.contest import LOOP, Course, Result
from bench.harness.load import Figures
from bench.harness.machine import describe_machine, title
from bench.harness.options import command_line, write_json
from bench.peers.catalogue import PEERS, SERVICE, chosen

LOADS = ("light", "heavy")
ENGINES = ("eager", "ours")
BATCH = 8


def main() -> None:
    """Measure, print a table a load as soon as it is there, and write everything as JSON."""
    given = _arguments()
    machine, everything, compared = describe_machine(), {}, {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        heavy = cards.find(cards.HEAVY, Path(folder))
        image = pictures.write(Path(folder) / "scene.jpg")
        for load in given.loads:
            course = _course(load, given, image, heavy)
            results = measure(course, given)
            everything[load] = [asdict(result) for result in results]
            compared[load] = {"ratios": list(ratios(results)), "efficiency": efficiency(results)}
            heading = f"{load}: {course.seconds:g} s a point, {title(machine)}"
            console = Console(width=160)
            console.print(table(results, heading))
            console.print(ahead(results, f"{load}: {SERVICE} over each, above 1.00 it is ahead"))
            write_json(given.json, {"machine": machine, "loads": everything, "compared": compared})


def _course(load: str, given: argparse.Namespace, image: Path, heavy: str) -> Course:
    light = load == "light"
    return Course(
        card="shapes" if light else heavy,
        image=image,
        connections=tuple(given.connections if light else given.heavy_connections),
        rates=tuple(given.rates),
        seconds=given.seconds if light else given.heavy_seconds,
        venvs=given.venvs,
        threads=given.threads,
    )


def measure(course: Course, given: argparse.Namespace) -> list[Result]:
    """All contenders, in turns: A B C, A B C, …; medians over the rounds."""
    rounds = [list(_round(course, given)) for _ in range(given.rounds)]
    return [contest.median(runs) for runs in zip(*rounds, strict=True)]


def _round(course: Course, given: argparse.Namespace) -> Iterator[Result]:
    if not given.no_loop:
        for engine in given.engines:
            yield _said(contest.loop(engine, course, BATCH))
    for peer in chosen(given.servers):
        for engine in peer.engines:
            if engine in given.engines:
                yield _said(contest.run(peer, engine, course))


def _said(result: Result) -> Result:
    """A line for each as it comes: the whole takes a while."""
    what = result.reason or f"{result.capacity:.2f} images/s"
    print(f"{result.server} ({result.engine}): {what}", file=sys.stderr, flush=True)
    return result


def table(results: Sequence[Result], heading: str) -> Table:
    """A row a server: at each point images/s, p50 and p99 in ms, ! with what was not answered by 200."""
    points = sorted({name for result in results for name in result.points}, key=_order)
    reasons = [f"{one.server} ({one.engine}): {one.reason}" for one in results if one.reason]
    captions = {"caption": "\n".join(reasons) or None, "caption_justify": "left"}
    shown = Table(title=heading, title_justify="left", **captions)
    shown.add_column("server", no_wrap=True)
    shown.add_column("engine")
    for name in points:
        what = "of capacity" if "x" in name else "at once"
        shown.add_column(f"{name} {what}\nimg/s  p50  p99", justify="right")
    for name in ("RSS MiB", "ready s"):
        shown.add_column(name, justify="right")
    for result in results:
        cells = [_cell(result.points[name]) if name in result.points else "" for name in points]
        shown.add_row(
            result.server,
            result.engine,
            *cells,
            _number(result.resident_mebibytes),
            _number(result.start_seconds, 1),
        )
    return shown


def ratios(results: Sequence[Result]) -> Iterator[tuple[str, str, str, float, float]]:
    """How far the service is ahead: server, engine, point, ratio of images/s and of p99 (above 1: ahead)."""
    ours = _service(results)
    for result in results:
        if ours is None or result.server in (SERVICE, LOOP):
            continue
        for name in [name for name in result.points if name in _closed(ours)]:
            here, there = ours.points[name], result.points[name]
            faster = here.images_per_second / there.images_per_second if there.images_per_second else math.inf
            yield result.server, result.engine, name, faster, there.p99_ms / here.p99_ms


def efficiency(results: Sequence[Result]) -> dict[str, float]:
    """Images/s through the service over those of the same engine in a loop, the faster one, by connections.

    Above 1: the service decodes while the device computes, a loop does one after the other.
    """
    ours = _service(results)
    loops = [result for result in results if result.server == LOOP and result.engine == "ours"]
    rates = [run.images_per_second for loop in loops for run in loop.points.values()]
    if ours is None or not rates:
        return {}
    return {name: ours.points[name].images_per_second / max(rates) for name in _closed(ours)}


def ahead(results: Sequence[Result], heading: str) -> Table:
    """A row a peer: at each number of connections the ratios of images/s and of p99."""
    ours = _service(results)
    points = sorted(_closed(ours), key=_order) if ours else []
    shown = Table(title=heading, title_justify="left")
    shown.add_column("over", no_wrap=True)
    shown.add_column("engine")
    for name in points:
        shown.add_column(f"{name} at once\nimg/s   p99", justify="right")
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for server, engine, name, faster, quicker in ratios(results):
        rows.setdefault((server, engine), {})[name] = f"{faster:.2f}  {quicker:.2f}"
    if shares := efficiency(results):
        rows[LOOP, "ours"] = {name: f"{share:.2f}      " for name, share in shares.items()}
    for (server, engine), cells in rows.items():
        shown.add_row(server, engine, *(cells.get(name, "") for name in points))
    return shown


def _service(results: Sequence[Result]) -> Result | None:
    return next((result for result in results if result.server == SERVICE and result.points), None)


def _closed(result: Result) -> list[str]:
    """The points of its closed loops."""
    return [name for name in result.points if "x" not in name]


def _order(point: str) -> tuple[bool, float]:
    """Closed loops first, each kind from little to much."""
    return point.endswith("x"), float(point.rstrip("x"))


def _cell(run: Figures) -> str:
    lost = f" !{sum(run.errors.values())}" if run.errors else ""
    return f"{run.images_per_second:.2f}  {_number(run.p50_ms)}  {_number(run.p99_ms)}{lost}"


def _number(value: float, digits: int = 0) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    names, cores = [peer.name for peer in PEERS], len(os.sched_getaffinity(0))
    parser.add_argument("--servers", nargs="*", default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--engines", nargs="*", default=ENGINES, choices=ENGINES)
    parser.add_argument("--loads", nargs="*", default=LOADS, choices=LOADS)
    parser.add_argument("--connections", nargs="*", type=int, help="closed loop; 1 4 16 64")
    parser.add_argument("--heavy-connections", nargs="*", type=int, help="the same, heavy")
    parser.add_argument("--rates", nargs="*", type=float, help="open loop, of its capacity; 0.5 1 1.5")
    parser.add_argument("--seconds", type=float, help="a point, light; 15")
    parser.add_argument("--heavy-seconds", type=float, help="a point, heavy; 60")
    parser.add_argument("--rounds", type=int, default=1, help="everybody in turns, medians")
    parser.add_argument("--threads", type=int, default=cores, help=f"of every model; {cores}: one a core")
    parser.add_argument("--no-loop", action="store_true", help="leave out the loop without a server")
    parser.add_argument("--quick", action="store_true", help="a second a point, light load, few points")
    parser.add_argument("--venvs", type=Path, default=Path(sys.prefix) / "peers", help="of the peers")
    given = parser.parse_args()
    quick = {"connections": [1, 4], "rates": [1.0], "seconds": 1.0, "heavy_seconds": 1.0}
    full = {"connections": [1, 4, 16, 64], "rates": [0.5, 1.0, 1.5], "seconds": 15.0, "heavy_seconds": 60.0}
    for name, value in (quick if given.quick else full).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    if given.heavy_connections is None:
        given.heavy_connections = given.connections
    if given.quick:
        given.loads = [load for load in given.loads if load == "light"] or given.loads
    return given


if __name__ == "__main__":
    main()
