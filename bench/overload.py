"""Goodput under overload: `python -m bench.overload`.

First closed loops: 8 and then 64 clients that send again as soon as they are answered, also after a 429,
which no client that honours Retry-After does. Then open loops at 1, 2 and 4 times the capacity that the
clients reached, whatever the service does; latency counts from the time a request was due. All loads in
turns, several rounds, medians: one minute of a shared machine differs from the next by more than what is
measured here, and the best of many loads would be its best minute. RCNN_TIMEOUT_MS is the deadline of a
request. With --stand-in the device takes measured times and computes nothing, as a GPU would: refusals then
have the cores to themselves.
"""

import argparse
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bench.harness import cards, pictures
from bench.harness.contest import Scenario, run_loads
from bench.harness.load import LoadResult, combine
from bench.harness.machine import describe_machine, title
from bench.harness.options import Columns, add_model, command_line, print_table, write_json
from bench.harness.service import MOST_CONNECTIONS, is_ready, recorded_command, serving

TIMEOUT_MS = 10_000
CLIENTS = (8, 64)  # of the closed loops
COLUMNS: Columns = {
    "load": lambda row: row["load"] + ("" if row["load"].endswith("x") else " clients"),
    "200/s": "{result.images_per_second:.1f}",
    "p50 ms": "{result.p50_ms:.0f}",
    "p99 ms": "{result.p99_ms:.0f}",
    "slowest ms": "{result.slowest_ms:.0f}",
    "others": lambda row: ", ".join(f"{status}: {count}" for status, count in row["result"].errors.items()),
    "429 without Retry-After": "{result.without_retry_after}",
}


def summarize(results: Mapping[str, LoadResult], timeout_ms: int) -> dict[str, float]:
    """Goodput at the last load over the best load's; the slowest p99 over the deadline."""
    rates = [result.images_per_second for result in results.values()]
    times = [result.p99_ms for result in results.values() if not math.isnan(result.p99_ms)]
    slowest = max(times, default=math.nan)
    return {"goodput_over_peak": rates[-1] / max(rates), "p99_over_deadline": slowest / timeout_ms}


def main() -> None:
    """Print a row a load, then the summary."""
    arguments, machine = _arguments(), describe_machine()
    settings = {"max_queue": arguments.max_queue, "timeout_ms": arguments.timeout_ms}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        settings["model"] = cards.find(arguments.model, folder)
        command = recorded_command(folder / "batches", arguments.slower) if arguments.stand_in else ()
        scenario = _scenario(arguments, pictures.write(folder / "scene.jpg"))
        with serving(command, **settings) as (target, server):
            rounds = [run_loads(target, scenario) for _ in range(arguments.rounds)]
            resident, ready = server.resident_mebibytes(), is_ready(target.port)
    results = {load: combine([one[load] for one in rounds]) for load in rounds[0]}
    summary = summarize(results, arguments.timeout_ms)
    deadline = (
        f"deadline {arguments.timeout_ms} ms, queue {arguments.max_queue}, medians of {arguments.rounds}"
    )
    model = f"{arguments.model}, a stand-in for its device" if arguments.stand_in else arguments.model
    rows = [{"load": load, "result": result} for load, result in results.items()]
    print_table(f"{model}, {deadline}; {title(machine)}", COLUMNS, rows)
    print(
        f"goodput of the last over the best: {summary['goodput_over_peak']:.2f}; "
        f"slowest p99 over the deadline: {summary['p99_over_deadline']:.2f}; "
        f"RSS {resident:.0f} MiB; ready after: {ready}"
    )
    runs = [{load: asdict(result) for load, result in one.items()} for one in rounds]
    write_json(
        arguments.json, machine, settings=settings, **summary, resident_mebibytes=resident, rounds=runs
    )


def _scenario(arguments: argparse.Namespace, image: Path) -> Scenario:
    return Scenario(
        card=arguments.model,
        image=image,
        connections=CLIENTS,
        rates=tuple(arguments.factors),
        seconds=arguments.seconds,
        venvs=Path(),
        threads=0,
        open_connections=MOST_CONNECTIONS,
    )


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    deadline = int(os.environ.get("RCNN_TIMEOUT_MS", TIMEOUT_MS))
    add_model(parser)
    parser.add_argument("--seconds", type=float, default=20, help="of each load")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--factors", nargs="*", type=float, default=[1.0, 2.0, 4.0], help="of the capacity")
    parser.add_argument("--stand-in", action="store_true", help="a device that sleeps for measured times")
    parser.add_argument("--slower", type=float, default=1, help="factor on the times of that device")
    parser.add_argument("--max-queue", type=int, default=16, help="RCNN_MAX_QUEUE")
    parser.add_argument("--timeout-ms", type=int, default=deadline, help="RCNN_TIMEOUT_MS")
    return parser.parse_args()


if __name__ == "__main__":
    main()
