"""This service beside other servers around the same model: `make bench-peers`.

Each server is started alone, asked for one answer that is compared with this service's, measured in closed
loops, then in open loops at multiples of its own capacity, and ended. "eager" is torchvision's own forward;
"ours" is the service's detector inside that server. Between both lies the share of the model, between servers
with "ours" that of the server. "loop" is the detector without a server, with one image and with batches of 8.
The ratios compare the service with each of them: its images/s over theirs, and their p99 over its own. The
row of the loop is the HTTP efficiency. A server that cannot be measured is a row that says why.

Each result is written as soon as it is there: to --json, and with --page into the tables of a page.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench.harness import cards, pictures
from bench.harness.contest import LOOP, Scenario, ServerResult, combine_rounds, measure_loop, measure_peer
from bench.harness.machine import describe_machine, title
from bench.harness.measuring import interleaved
from bench.harness.options import add_threads, command_line, write_json
from bench.peers.catalogue import PEERS, SERVICE, select_peers
from bench.servers.tables import efficiency, print_ratios, print_results, ratios, tables_in_page

LOADS = ("light", "heavy")  # shapes, and ResNet-50 with random weights
ENGINES = ("eager", "ours")
QUICK = {"connections": [1, 4], "rates": [1.0], "seconds": 1.0}
FULL = {"connections": [1, 4, 16, 64], "rates": [0.5, 1.0, 1.5], "seconds": 4.0}


def main() -> None:
    """Measure, and print the tables of a load as soon as it is done."""
    arguments = _arguments()
    machine, loads, comparisons = describe_machine(), {}, {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for load in arguments.loads:
            scenario = _scenario(load, arguments, Path(folder))

            def publish(results: list[ServerResult], load: str = load, scenario: Scenario = scenario) -> None:
                loads[load] = [asdict(result) for result in results]
                comparisons[load] = {"ratios": list(ratios(results)), "efficiency": efficiency(results)}
                write_json(arguments.json, machine, loads=loads, compared=comparisons)
                if arguments.page:
                    note = _note(load, scenario, arguments, title(machine))
                    page = tables_in_page(arguments.page.read_text(), f"peers-{load}", results, note)
                    arguments.page.write_text(page)

            results = measure(scenario, arguments, publish)
            print_results(results, f"{load}: {scenario.seconds:g} s a load, {title(machine)}")
            print_ratios(results, f"{load}: {SERVICE} over each, above 1.00 it is ahead")


def _note(load: str, scenario: Scenario, arguments: argparse.Namespace, machine: str) -> str:
    """What the tables of a page were measured with."""
    how = f"`--loads {load} --seconds {scenario.seconds:g} --runs {arguments.runs}`"
    precision = os.environ.get("RCNN_PRECISION", "auto")
    return f"Precision of our detector: {precision}. {machine}, `python -m bench.servers` {how}."


def _scenario(load: str, arguments: argparse.Namespace, folder: Path) -> Scenario:
    return Scenario(
        card="shapes" if load == "light" else cards.find(cards.HEAVY, folder),
        image=pictures.write(folder / "scene.jpg"),
        connections=tuple(arguments.connections),
        rates=tuple(arguments.rates),
        seconds=arguments.seconds,
        venvs=arguments.venvs,
        threads=arguments.threads,
    )


def measure(
    scenario: Scenario, arguments: argparse.Namespace, publish: Callable[[list[ServerResult]], None]
) -> list[ServerResult]:
    """All servers with all engines, in turns; medians over the runs. `publish` gets the results so far."""
    runs: dict[tuple[str, str], Callable[[], ServerResult]] = {}
    for engine in () if arguments.no_loop else arguments.engines:
        runs[LOOP, engine] = partial(measure_loop, engine, scenario)
    for peer in select_peers(arguments.servers):
        for engine in sorted(set(peer.engines) & set(arguments.engines)):
            runs[peer.name, engine] = partial(measure_peer, peer, engine, scenario)
    done: dict[tuple[str, str], list[ServerResult]] = {name: [] for name in runs}

    def run_one(name: tuple[str, str], _: int) -> None:
        done[name].append(_report(runs[name]))
        publish([combine_rounds(rounds) for rounds in done.values() if rounds])

    interleaved({name: partial(run_one, name) for name in runs}, range(arguments.runs))
    return [combine_rounds(rounds) for rounds in done.values()]


def _report(run: Callable[[], ServerResult]) -> ServerResult:
    """Run, and print a line: all servers together take many minutes."""
    result = run()
    outcome = result.reason or f"{result.capacity:.2f} images/s"
    print(f"{result.server} ({result.engine}): {outcome}", file=sys.stderr, flush=True)
    return result


def _arguments() -> argparse.Namespace:
    parser, names = command_line(__doc__), [peer.name for peer in PEERS]
    parser.add_argument("--servers", nargs="*", default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--engines", nargs="*", default=ENGINES, choices=ENGINES)
    parser.add_argument("--loads", nargs="*", default=LOADS[:1], choices=LOADS, help="light")
    parser.add_argument("--connections", nargs="*", type=int, help="closed loops; 1 4 16 64")
    parser.add_argument("--rates", nargs="*", type=float, help="open loops, times the capacity; 0.5 1 1.5")
    parser.add_argument("--seconds", type=float, help="of each load; 4")
    parser.add_argument("--runs", type=int, default=1, help="all servers in turns, medians")
    parser.add_argument("--no-loop", action="store_true", help="leave out the loop without a server")
    parser.add_argument("--page", type=Path, help="a page whose tables are replaced")
    parser.add_argument("--quick", action="store_true", help="a second a load, few loads")
    parser.add_argument("--venvs", type=Path, default=Path(sys.prefix) / "peers", help="of the peers")
    add_threads(parser)
    arguments = parser.parse_args()
    for name, value in (QUICK if arguments.quick else FULL).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


if __name__ == "__main__":
    main()
