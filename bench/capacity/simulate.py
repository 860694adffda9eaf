"""Fleets of replicas as a model: `python -m bench.capacity.simulate`.

Prints what 1 to 10,000 replicas answer in time at shares of their capacity, with three balancers; the highest
share that holds the objective; and a day and a flash crowd under the scaling rules of docker/kubernetes.
With --page it writes the tables into a page, with --plots the plots into a folder. The service times are
those in bench/harness/times.json, which --validate --save measures.

    python -m bench.capacity.simulate --validate  # the model beside the real server, under 10 minutes
    python -m bench.capacity.simulate --validate --save bench/harness/times.json
    python -m bench.capacity.simulate --validate --stand-in  # with a device that sleeps for measured times
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from bench.capacity.fleet import FleetConfig
from bench.capacity.scenarios import (
    BALANCERS,
    LOADS,
    REPLICAS,
    ConstantLoad,
    constant_loads,
    highest_load,
    scaled_traces,
)
from bench.capacity.validation import is_within, report, validate
from bench.harness.machine import describe_machine
from bench.harness.options import Columns, Row, command_line, print_table, replace_table, write_json
from bench.harness.times import TIMES, read_times, write_times

FLEET: Columns = {
    "replicas": "{replicas}",
    "balancer": "{balancer}",
    "load": "{load:g}",
    "offered/s": "{offered:.0f}",
    "answered/s": "{throughput:.0f}",
    "p50": "{p50_ms:.0f}",
    "p99": "{p99_ms:.0f}",
    "goodput": "{goodput:.3f}",
    "refused": "{refused:.3f}",
}
P99: Columns = {
    "replicas": "{replicas}",
    "balancer": "{balancer}",
    **{f"{load:.0%}": f"{{at {load:g}}}" for load in LOADS},
}
HIGHEST: Columns = {"replicas": "{replicas}", **{name: f"{{{name}:g}}" for name in BALANCERS}}
SCALED: Columns = {
    "trace": "{trace}",
    "rule": "{rule}",
    "start, s": "{start_seconds:g}",
    "p99, ms": "{p99_ms:.0f}",
    "goodput": "{goodput:.4f}",
    "refused": "{refused:.4f}",
    "peak": "{peak}",
    "cost": "{cost:.2f}",
}


def main() -> int:
    """Print the tables; 1 if the model is not within the aim of the real server."""
    arguments = _arguments()
    config = FleetConfig(max_batch=arguments.max_batch, max_queue=arguments.max_queue)
    return _validate(arguments, config) if arguments.validate else _simulate(arguments, config)


def _simulate(arguments: argparse.Namespace, config: FleetConfig) -> int:
    times, objective = read_times(arguments.times), arguments.objective
    sizes = [size for size in REPLICAS if size <= arguments.most]
    loads = list(constant_loads(times, config, objective, sizes, arguments.requests))
    fleets, highest = [vars(one) for one in loads], list(highest_rows(loads, objective))
    traces = [vars(one) for one in scaled_traces(times, config, objective)]
    print_table(f"p99 in ms; one replica: {times.capacity:.1f} images/s", FLEET, fleets)
    print_table(f"highest load with p99 within {objective:g} s", HIGHEST, highest)
    print_table(f"goodput is the share answered within {objective:g} s", SCALED, traces)
    write_json(arguments.json, describe_machine(), steady=fleets, scaled=traces)
    if arguments.page:
        text = replace_table(arguments.page.read_text(), "fleet", P99, p99_rows(loads))
        text = replace_table(text, "highest", HIGHEST, highest)
        arguments.page.write_text(replace_table(text, "scaled", SCALED, traces))
    if arguments.plots:
        from bench.capacity.capacity_plots import draw  # imports matplotlib

        draw(arguments.plots, loads, times, config)
    return 0


def p99_rows(loads: Sequence[ConstantLoad]) -> list[Row]:
    """A row a fleet and balancer, a column a load: p99 in ms, and a mark if requests were refused."""
    rows: dict[tuple[int, str], dict[str, object]] = {}
    for one in loads:
        row = rows.setdefault(
            (one.replicas, one.balancer), {"replicas": one.replicas, "balancer": one.balancer}
        )
        row[f"at {one.load:g}"] = f"{one.p99_ms:.0f}" + (" (429)" if one.refused else "")
    return list(rows.values())


def highest_rows(loads: Sequence[ConstantLoad], objective: float) -> Iterator[Row]:
    """A row a fleet, a column a balancer."""
    for replicas in sorted({one.replicas for one in loads}):
        balancers = BALANCERS if replicas > 1 else BALANCERS[:1]
        highest = {name: highest_load(loads, replicas, name, objective) for name in balancers}
        yield {"replicas": replicas, **highest}


def _validate(arguments: argparse.Namespace, config: FleetConfig) -> int:
    machine, stand_in = describe_machine(), arguments.stand_in
    device = (arguments.slower, arguments.times) if stand_in else None
    times, comparisons = validate(arguments.model, arguments.seconds, arguments.rounds, config, device)
    table = "validated-stand-in" if stand_in else "validated"
    report(comparisons, f"{arguments.model}, the server and the model", machine, arguments.page, table)
    sizes = ", ".join(f"{size}: {1000 * sum(one) / len(one):.1f}" for size, one in times.batches.items())
    print(f"ms of a batch by its size: {sizes}; outside of it {1000 * median(times.outside):.0f} ms")
    if arguments.save:
        write_times(arguments.save, times, machine=machine, model=arguments.model)
    write_json(arguments.json, machine, model=arguments.model, runs=[asdict(one) for one in comparisons])
    return 0 if is_within(comparisons) else 1


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--validate", action="store_true", help="compare the model with the real server")
    parser.add_argument("--seconds", type=float, default=30, help="of each load of --validate")
    parser.add_argument("--rounds", type=int, default=3, help="of --validate; medians count")
    parser.add_argument("--model", default="shapes", help="that --validate serves")
    parser.add_argument("--save", type=Path, help="a file for the service times that --validate measures")
    parser.add_argument("--times", type=Path, default=TIMES, help="service times, as --save writes them")
    parser.add_argument("--stand-in", action="store_true", help="--validate with a device that takes --times")
    parser.add_argument("--slower", type=float, default=3, help="factor on the times of that device")
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--max-queue", type=int, default=64)
    parser.add_argument("--objective", type=float, default=0.5, help="seconds within which an answer counts")
    parser.add_argument("--most", type=int, default=REPLICAS[-1], help="replicas of the largest fleet")
    parser.add_argument("--requests", type=int, default=600_000, help="most requests of one run")
    parser.add_argument("--page", type=Path, help="a page whose tables are replaced")
    parser.add_argument("--plots", type=Path, help="a folder for the plots")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
