"""This service beside other servers around the same model: `python -m bench.server`.

Each server is started alone, measured in closed loops, then in open loops at multiples of its own capacity,
and ended. "eager" is torchvision's own forward; "ours" is the service's detector inside that server. Between
both lies the share of the model, between servers with "ours" that of the server. "loop" is the detector
without a server, with one image and with batches of 8. The second table compares the service with each of
them: its images/s over theirs, and their p99 over its own. The row of the loop is the HTTP efficiency.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench.harness import cards, pictures
from bench.harness.contest import LOOP, Scenario, ServerResult, combine_rounds, measure_loop, measure_peer
from bench.harness.load import LoadResult
from bench.harness.machine import describe_machine, title
from bench.harness.measuring import interleaved
from bench.harness.options import Columns, Row, add_threads, command_line, print_table, write_json
from bench.peers.catalogue import PEERS, SERVICE, select_peers

LOADS = ("light", "heavy")
ENGINES = ("eager", "ours")
QUICK = {"connections": [1, 4], "rates": [1.0], "seconds": 1.0, "heavy_seconds": 1.0}
FULL = {"connections": [1, 4, 16, 64], "rates": [0.5, 1.0, 1.5], "seconds": 15.0, "heavy_seconds": 60.0}


def main() -> None:
    """Measure, print both tables of a load as soon as it is done, and write everything as JSON."""
    arguments = _arguments()
    machine, loads, comparisons = describe_machine(), {}, {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for load in arguments.loads:
            scenario = _scenario(load, arguments, Path(folder))
            results = measure(scenario, arguments)
            loads[load] = [asdict(result) for result in results]
            comparisons[load] = {"ratios": list(ratios(results)), "efficiency": efficiency(results)}
            print_results(results, f"{load}: {scenario.seconds:g} s a load, {title(machine)}")
            print_ratios(results, f"{load}: {SERVICE} over each, above 1.00 it is ahead")
            write_json(arguments.json, machine, loads=loads, compared=comparisons)


def _scenario(load: str, arguments: argparse.Namespace, folder: Path) -> Scenario:
    light = load == "light"
    return Scenario(
        card="shapes" if light else cards.find(cards.HEAVY, folder),
        image=pictures.write(folder / "scene.jpg"),
        connections=tuple(arguments.connections if light else arguments.heavy_connections),
        rates=tuple(arguments.rates),
        seconds=arguments.seconds if light else arguments.heavy_seconds,
        venvs=arguments.venvs,
        threads=arguments.threads,
    )


def measure(scenario: Scenario, arguments: argparse.Namespace) -> list[ServerResult]:
    """All servers with all engines, in turns; medians over the rounds."""
    runs: dict[tuple[str, str], Callable[[], ServerResult]] = {}
    for engine in () if arguments.no_loop else arguments.engines:
        runs[LOOP, engine] = partial(measure_loop, engine, scenario)
    for peer in select_peers(arguments.servers):
        for engine in sorted(set(peer.engines) & set(arguments.engines)):
            runs[peer.name, engine] = partial(measure_peer, peer, engine, scenario)
    variants = {name: partial(_report, run) for name, run in runs.items()}
    return [combine_rounds(rounds) for rounds in interleaved(variants, range(arguments.rounds)).values()]


def _report(run: Callable[[], ServerResult], _: int) -> ServerResult:
    """Run, and print a line: all servers together take hours."""
    result = run()
    outcome = result.reason or f"{result.capacity:.2f} images/s"
    print(f"{result.server} ({result.engine}): {outcome}", file=sys.stderr, flush=True)
    return result


def print_results(results: Sequence[ServerResult], heading: str) -> None:
    """A row a server: for each load images/s, p50 and p99 in ms, ! with the number of errors."""
    names = sorted({name for result in results for name in result.loads}, key=_order)
    columns: Columns = {"server": "{server}", "engine": "{engine}"}
    for name in names:
        unit = "of capacity" if name.endswith("x") else "at once"
        columns = {**columns, f"{name} {unit}\nimg/s  p50  p99": partial(_load_cell, name)}
    columns = {**columns, "RSS MiB": "{resident_mebibytes:.0f}", "ready s": "{start_seconds:.1f}"}
    reasons = [f"{result.server} ({result.engine}): {result.reason}" for result in results if result.reason]
    print_table(heading, columns, [vars(result) for result in results], "\n".join(reasons))


def _load_cell(name: str, row: Row) -> str:
    load: LoadResult = row["loads"][name]
    errors = f" !{load.error_count}" if load.errors else ""
    times = "  ".join("" if math.isnan(value) else f"{value:.0f}" for value in (load.p50_ms, load.p99_ms))
    return f"{load.images_per_second:.2f}  {times}{errors}"


def ratios(results: Sequence[ServerResult]) -> Iterator[tuple[str, str, str, float, float]]:
    """Server, engine, load, ratio of images/s and of p99: above 1 the service is ahead."""
    ours = _service(results)
    for result in results:
        if ours is None or result.server in (SERVICE, LOOP):
            continue
        for name in [name for name in result.loads if name in ours.closed_loops]:
            here, there = ours.loads[name], result.loads[name]
            faster = here.images_per_second / there.images_per_second if there.images_per_second else math.inf
            yield result.server, result.engine, name, faster, there.p99_ms / here.p99_ms


def efficiency(results: Sequence[ServerResult]) -> dict[str, float]:
    """Images/s of the service over those of the same engine in the faster loop, by connections.

    Above 1: the service decodes while the device computes, a loop does one after the other.
    """
    ours = _service(results)
    loops = [result.capacity for result in results if result.server == LOOP and result.engine == "ours"]
    if ours is None or not any(loops):
        return {}
    return {name: load.images_per_second / max(loops) for name, load in ours.closed_loops.items()}


def print_ratios(results: Sequence[ServerResult], heading: str) -> None:
    """A row a peer: for each number of connections the ratios of images/s and of p99."""
    ours = _service(results)
    names = sorted(ours.closed_loops, key=_order) if ours else []
    columns: Columns = {"over": "{server}", "engine": "{engine}"}
    columns = {**columns, **{f"{name} at once\nimg/s   p99": f"{{at {name}}}" for name in names}}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for server, engine, name, faster, quicker in ratios(results):
        row = rows.setdefault((server, engine), {"server": server, "engine": engine})
        row[f"at {name}"] = f"{faster:.2f}  {quicker:.2f}"
    if shares := efficiency(results):
        loop = {f"at {name}": f"{share:.2f}      " for name, share in shares.items()}
        rows[LOOP, "ours"] = {"server": LOOP, "engine": "ours", **loop}
    print_table(heading, columns, rows.values())


def _service(results: Sequence[ServerResult]) -> ServerResult | None:
    return next((result for result in results if result.server == SERVICE and result.loads), None)


def _order(load: str) -> tuple[bool, float]:
    """Closed loops first, each kind from few to many."""
    return load.endswith("x"), float(load.rstrip("x"))


def _arguments() -> argparse.Namespace:
    parser, names = command_line(__doc__), [peer.name for peer in PEERS]
    parser.add_argument("--servers", nargs="*", default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--engines", nargs="*", default=ENGINES, choices=ENGINES)
    parser.add_argument("--loads", nargs="*", default=LOADS, choices=LOADS)
    parser.add_argument("--connections", nargs="*", type=int, help="closed loops; 1 4 16 64")
    parser.add_argument("--heavy-connections", nargs="*", type=int, help="the same for the heavy model")
    parser.add_argument("--rates", nargs="*", type=float, help="open loops, times the capacity; 0.5 1 1.5")
    parser.add_argument("--seconds", type=float, help="of a light load; 15")
    parser.add_argument("--heavy-seconds", type=float, help="of a heavy load; 60")
    parser.add_argument("--rounds", type=int, default=1, help="all servers in turns, medians")
    parser.add_argument("--no-loop", action="store_true", help="leave out the loop without a server")
    parser.add_argument("--quick", action="store_true", help="a second a load, light model, few loads")
    parser.add_argument("--venvs", type=Path, default=Path(sys.prefix) / "peers", help="of the peers")
    add_threads(parser)
    arguments = parser.parse_args()
    for name, value in (QUICK if arguments.quick else FULL).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    if arguments.heavy_connections is None:
        arguments.heavy_connections = arguments.connections
    if arguments.quick:
        arguments.loads = [load for load in arguments.loads if load == "light"] or arguments.loads
    return arguments


if __name__ == "__main__":
    main()
