"""Goodput under overload: `python -m bench.overload`.

First the storm: 8 and then 64 clients that ask again as soon as they are answered, also after a 429, worse
than any client that honours Retry-After. Then the open loop: requests at 1, 2 and 4 times the capacity that
the 8 clients reached, whatever the service does; latency counts from the moment a request was due. All loads
in turns, several rounds, and medians of each: between two minutes a shared machine differs by more than what
is measured here, and the best of many loads would be its best minute. The service runs as a process of its
own; RCNN_TIMEOUT_MS is the deadline of a request. With --stand-in its device takes measured times and
computes nothing, as one beside the CPU would: then refusals have the cores to themselves.
"""

import argparse
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.harness import cards, pictures
from bench.harness.load import Figures, Plan, Target, measure, middle
from bench.harness.machine import describe_machine, title
from bench.harness.options import command_line, write_json
from bench.harness.processes import Server, free_port, running
from bench.harness.service import MOST_CONNECTIONS, environment, ready, serve_command, stand_in_command

TIMEOUT_MS = 10_000
STORM = (8, 64)


@dataclass(frozen=True)
class Run:
    """One load and what came of it."""

    load: str
    figures: Figures
    resident_mebibytes: float


def runs(port: int, server: Server, given: argparse.Namespace, image: Path) -> Iterator[Run]:
    """Each round the storm, then the open loops; what they multiply is the first storm's answers a second."""
    target = Target(port)

    def run(load: str, plan: Plan) -> Run:
        return Run(load, measure(target, [image], plan), server.resident_mebibytes())

    measure(target, [image], Plan(8, min(3.0, given.seconds)))  # warm-up
    capacity = 0.0
    for _ in range(given.rounds):
        for clients in STORM:
            found = run(f"{clients} clients", Plan(clients, given.seconds))
            capacity = capacity or found.figures.images_per_second
            yield found
        for factor in given.factors:
            yield run(f"{factor:g}x", Plan(MOST_CONNECTIONS, given.seconds, rate=factor * capacity))


def medians(found: Sequence[Run]) -> list[Run]:
    """A run a load: medians of its rates and times, its slowest answer, all its errors, the last RSS."""
    loads: dict[str, list[Run]] = {}
    for run in found:
        loads.setdefault(run.load, []).append(run)
    return [
        Run(load, middle([run.figures for run in rounds]), rounds[-1].resident_mebibytes)
        for load, rounds in loads.items()
    ]


def verdict(found: Sequence[Run], timeout_ms: int) -> dict[str, float]:
    """Goodput at the worst open loop over the best load; the slowest p99 over the deadline."""
    peak = max(run.figures.images_per_second for run in found)
    last = found[-1].figures.images_per_second
    slowest = max(
        (run.figures.p99_ms for run in found if not math.isnan(run.figures.p99_ms)), default=math.nan
    )
    return {"goodput_over_peak": last / peak, "p99_over_deadline": slowest / timeout_ms}


def main() -> None:
    """Print a line for each load, and the verdict."""
    given = _arguments()
    port, machine = free_port(), describe_machine()
    settings = {"max_queue": str(given.max_queue), "timeout_ms": str(given.timeout_ms)}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        settings["model"] = cards.find(given.model, Path(folder))
        image = pictures.write(Path(folder) / "scene.jpg")
        command = stand_in_command(Path(folder), given.slower) if given.stand_in else serve_command()
        with running(command, environment(port, **settings), lambda: ready(port), 240) as server:
            rounds = list(runs(port, server, given, image))
            alive = ready(port)
    found = medians(rounds)
    outcome = verdict(found, given.timeout_ms)
    deadline = f"deadline {given.timeout_ms} ms, queue {given.max_queue}, medians of {given.rounds}"
    model = f"{given.model}, a stand-in for its device" if given.stand_in else given.model
    Console(width=150).print(table(found, f"{model}, {deadline}; {title(machine)}"))
    print(
        f"goodput of the last over the best: {outcome['goodput_over_peak']:.2f}; "
        f"slowest p99 over the deadline: {outcome['p99_over_deadline']:.2f}; ready after: {alive}"
    )
    everything = {"machine": machine, "settings": settings, **outcome}
    write_json(given.json, {**everything, "runs": [asdict(run) for run in rounds]})


def table(found: Sequence[Run], heading: str) -> Table:
    """A row a load."""
    columns = (
        "load",
        "200/s",
        "p50 ms",
        "p99 ms",
        "slowest ms",
        "others",
        "429 without Retry-After",
        "RSS MiB",
    )
    shown = Table(*columns, title=heading)
    for run in found:
        one = run.figures
        times = [f"{value:.0f}" for value in (one.p50_ms, one.p99_ms, one.slowest_ms)]
        others = ", ".join(f"{status}: {count}" for status, count in one.errors.items())
        rest = (others, str(one.without_retry_after), f"{run.resident_mebibytes:.0f}")
        shown.add_row(run.load, f"{one.images_per_second:.1f}", *times, *rest)
    return shown


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    deadline = int(os.environ.get("RCNN_TIMEOUT_MS", TIMEOUT_MS))
    parser.add_argument("--model", default="shapes", help=f"name or path of a card, or {cards.HEAVY}")
    parser.add_argument("--seconds", type=float, default=20, help="a load")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--factors", nargs="*", type=float, default=[1.0, 2.0, 4.0], help="of the capacity")
    parser.add_argument("--stand-in", action="store_true", help="a device that only takes its time")
    parser.add_argument(
        "--slower", type=float, default=1, help="times as slow that device is as the measured"
    )
    parser.add_argument("--max-queue", type=int, default=16, help="RCNN_MAX_QUEUE")
    parser.add_argument("--timeout-ms", type=int, default=deadline, help="RCNN_TIMEOUT_MS")
    return parser.parse_args()


if __name__ == "__main__":
    main()
