"""Fleets of replicas as a model: `python -m bench.capacity.simulate`.

Prints what 1 to 10,000 replicas answer in time at shares of their capacity, by three balancers; the highest
share that holds the objective; and a day and a flash crowd under the scaling rules of docker/kubernetes.
With --page it writes the tables into a page, with --plots the pictures into a folder. The service times are
those in bench/harness/times.json, which --validate --save measures.

    python -m bench.capacity.simulate --validate  # the model beside the real server, under 10 minutes
    python -m bench.capacity.simulate --validate --save bench/harness/times.json
    python -m bench.capacity.simulate --validate --stand-in  # with a device that only takes its time
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.capacity.fleet import Rules
from bench.capacity.scenarios import (
    BALANCERS,
    LOADS,
    REPLICAS,
    Scaled,
    Steady,
    highest_load,
    scaled,
    steadies,
)
from bench.capacity.validation import AIM, Compared, validate, within
from bench.harness.machine import describe_machine, title
from bench.harness.options import command_line, write_json
from bench.harness.times import TIMES, ServiceTimes, read_times, write_times

Rows = Sequence[Sequence[object]]


def main() -> int:
    """Print the tables; 1 where the model is not within the aim of the real server."""
    given = _arguments()
    rules = Rules(max_batch=given.max_batch, max_queue=given.max_queue)
    if given.validate:
        return _validate(given, rules)
    times = read_times(given.times)
    found = list(steadies(times, rules, given.objective, _sizes(given.most), given.requests))
    traces = list(scaled(times, rules, given.objective))
    within_it = f"within {given.objective:g} s"
    shown = {
        "fleet": (fleet_rows(found), f"p99 in ms; one replica: {times.capacity:.1f} images/s", FLEET),
        "highest": (load_rows(found, given.objective), f"highest load with p99 {within_it}", HIGHEST),
        "scaled": (scaled_rows(traces), f"goodput is the share answered {within_it}", SCALED),
    }
    for rows, heading, columns in shown.values():
        print_table(rows, heading, columns)
    write_json(
        given.json, {"steady": [asdict(one) for one in found], "scaled": [asdict(one) for one in traces]}
    )
    if given.page:
        text = given.page.read_text()
        pages = {**shown, "fleet": (p99_rows(found), "", P99)}
        for name, (rows, _, columns) in pages.items():
            text = with_table(text, name, rows, columns)
        given.page.write_text(text)
    if given.plots:
        from bench.capacity.capacity_plots import draw  # matplotlib, which only this needs

        draw(given.plots, found, times, rules)
    return 0


FLEET = ("replicas", "balancer", "load", "offered/s", "answered/s", "p50", "p99", "goodput", "refused")
P99 = ("replicas", "balancer", *(f"{load:.0%}" for load in LOADS))
HIGHEST = ("replicas", *BALANCERS)
SCALED = ("trace", "rule", "start, s", "p99, ms", "goodput", "refused", "peak", "cost")
COMPARED = (
    "load",
    "offered/s",
    "answered/s",
    "model",
    "off",
    "p50",
    "model",
    "p99",
    "model",
    "off",
    "refused",
    "model",
)


def fleet_rows(found: Sequence[Steady]) -> Rows:
    """A row a fleet, balancer and load."""
    return [
        (
            *(one.replicas, one.balancer, f"{one.load:g}", f"{one.offered:.0f}", f"{one.throughput:.0f}"),
            *(_ms(one.p50), _ms(one.p99), f"{one.goodput:.3f}", f"{one.refused:.3f}"),
        )
        for one in found
    ]


def p99_rows(found: Sequence[Steady]) -> Rows:
    """A row a fleet and balancer, a column a load: p99 in ms, and a mark where some were refused."""
    fleets = dict.fromkeys((one.replicas, one.balancer) for one in found)
    return [
        (
            *fleet,
            *(
                _ms(one.p99) + (" (429)" if one.refused else "")
                for one in found
                if (one.replicas, one.balancer) == fleet
            ),
        )
        for fleet in fleets
    ]


def load_rows(found: Sequence[Steady], objective: float) -> Rows:
    """A row a fleet, a column a balancer."""
    sizes = sorted({one.replicas for one in found})
    return [
        (
            size,
            *(
                f"{highest_load(found, size, name, objective):g}" if size > 1 or not index else ""
                for index, name in enumerate(BALANCERS)
            ),
        )
        for size in sizes
    ]


def scaled_rows(found: Sequence[Scaled]) -> Rows:
    """A row a trace, rule and start."""
    return [
        (
            *(one.trace, one.rule, f"{one.start_seconds:g}", _ms(one.p99), f"{one.goodput:.4f}"),
            *(f"{one.refused:.4f}", one.peak, f"{one.cost:.2f}"),
        )
        for one in found
    ]


def compared_rows(found: Sequence[Compared]) -> Rows:
    """A row a load: the server, the model, how far it is off."""
    return [
        (
            *(one.load, f"{one.rate:.1f}", f"{one.real.images_per_second:.1f}"),
            *(f"{one.model.images_per_second:.1f}", f"{one.off('images_per_second'):+.1%}"),
            *(f"{one.real.p50_ms:.0f}", f"{one.model.p50_ms:.0f}"),
            *(f"{one.real.p99_ms:.0f}", f"{one.model.p99_ms:.0f}", f"{one.off('p99_ms'):+.1%}"),
            *(sum(one.real.errors.values()), sum(one.model.errors.values())),
        )
        for one in found
    ]


def with_table(text: str, name: str, rows: Rows, columns: Sequence[str]) -> str:
    """A page with its table `name`, which lies between two comments, replaced."""
    lines = [columns, ["---"] * len(columns), *rows]
    table = "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)
    found = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return found.sub(lambda match: match[1] + table + match[2], text)


def _validate(given: argparse.Namespace, rules: Rules) -> int:
    machine = describe_machine()
    device = ["--stand-in", str(given.times), "--slower", str(given.slower)] if given.stand_in else []
    times, found = validate(given.model, given.seconds, given.rounds, rules, device)
    sizes = ", ".join(f"{size}: {1000 * sum(one) / len(one):.1f}" for size, one in times.batches.items())
    rows = compared_rows(found)
    if given.page:
        name = "validated-stand-in" if given.stand_in else "validated"
        given.page.write_text(with_table(given.page.read_text(), name, rows, COMPARED))
    print_table(rows, f"{given.model}, the server and the model; {title(machine)}", COMPARED)
    print(f"ms of a batch by its size: {sizes}; outside of it {_middle(times)} ms")
    print(f"throughput and p99 within {AIM:.0%}: {'yes' if within(found) else 'no'}")
    everything = {"machine": machine, "model": given.model}
    if given.save:
        write_times(given.save, times, dict(everything))
    write_json(given.json, {**everything, "runs": [asdict(one) for one in found]})
    return 0 if within(found) else 1


def _middle(times: ServiceTimes) -> str:
    return _ms(sorted(times.outside)[len(times.outside) // 2])


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f}"


def _sizes(most: int) -> list[int]:
    return [size for size in REPLICAS if size <= most]


def print_table(rows: Rows, heading: str, columns: Sequence[str]) -> None:
    """On a wide terminal, numbers to the right."""
    table = Table(title=heading, title_justify="left", box=None, header_style="dim", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=150).print(table)
    print()


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--validate", action="store_true", help="the model beside the real server")
    parser.add_argument("--seconds", type=float, default=30, help="of each load of --validate")
    parser.add_argument("--rounds", type=int, default=3, help="of --validate, of whose figures medians count")
    parser.add_argument("--model", default="shapes", help="that --validate serves")
    parser.add_argument("--save", type=Path, help="where --validate writes the service times it measured")
    parser.add_argument("--times", type=Path, default=TIMES, help="service times, as --save wrote them")
    parser.add_argument("--stand-in", action="store_true", help="--validate with a device of --times")
    parser.add_argument("--slower", type=float, default=3, help="times as slow that device is")
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--max-queue", type=int, default=64)
    parser.add_argument("--objective", type=float, default=0.5, help="seconds within which an answer counts")
    parser.add_argument("--most", type=int, default=REPLICAS[-1], help="replicas of the largest fleet")
    parser.add_argument("--requests", type=int, default=600_000, help="most requests of one run")
    parser.add_argument("--page", type=Path, help="a page whose tables are replaced")
    parser.add_argument("--plots", type=Path, help="a folder for the pictures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
