"""Two source trees side by side: `python -m bench.compare --before DIR --after DIR -- engine`.

Runs the same benchmark (engine, latency or another one whose JSON has `rows`) of both trees in turns, and
prints for each row the median of the pairs' ratios, time after over time before, with an interval that holds
the true ratio with at least 95 % confidence. The interval is made of order statistics, so it needs no
assumption about the distribution: of the default seven pairs it is smallest to largest ratio (98.4 %; second
to sixth would be 87.5 %). Fewer than six pairs cannot reach 95 %. Exit code 1: a whole interval is above
--bound, so that row is slower.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness.machine import describe_machine, title
from bench.harness.measuring import CONFIDENCE, MedianInterval, interleaved, median_interval
from bench.harness.options import Columns, command_line, print_table, write_json

TIMES = ("ms", "p50_ms", "seconds")  # the names of a row's time, by benchmark
BEFORE, AFTER = "before", "after"
COLUMNS: Columns = {
    "row": "{row}",
    "before": "{before:.4g}",
    "after": "{after:.4g}",
    "ratio": "{ratio:.3f}",
    "interval": "{low:.3f} to {high:.3f}",
    "confidence": "{confidence:.1%}",
    "no slower than the bound": "{no_slower}",
}

Times = dict[str, float]
"""The time of each row, by the row's text values."""


def run(tree: Path, command: Sequence[str], _: int) -> Times:
    """One run of a tree's benchmark. Raises CalledProcessError if it fails."""
    module, *arguments = command
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "client")])}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "results.json"
        full = [sys.executable, "-m", f"bench.{module}", *arguments, "--json", str(out)]
        subprocess.run(full, cwd=tree, env=environment, stdout=subprocess.DEVNULL, check=True)  # noqa: S603  # ours
        return row_times(json.loads(out.read_text())["rows"])


def row_times(rows: Sequence[Mapping[str, Any]]) -> Times:
    """The rows' times. Raises ValueError if a row has none."""
    times = {}
    for row in rows:
        name = next((name for name in TIMES if name in row), None)
        if name is None:
            raise ValueError(f"a row has none of {', '.join(TIMES)}: {row}")
        times[" ".join(value for value in row.values() if isinstance(value, str))] = float(row[name])
    return times


def compare(before: Sequence[Times], after: Sequence[Times], bound: float) -> list[dict[str, Any]]:
    """A row for each name that all runs have; `no_slower` compares the interval with the bound."""
    rows = []
    for name in [name for name in before[0] if all(name in times for times in [*before, *after])]:
        interval = median_interval([new[name] / old[name] for old, new in zip(before, after, strict=True)])
        rows.append(
            {
                "row": name,
                "before": median(times[name] for times in before),
                "after": median(times[name] for times in after),
                "ratio": interval.median,
                "low": interval.low,
                "high": interval.high,
                "confidence": interval.confidence,
                "no_slower": _claim(interval, bound),
            }
        )
    return rows


def _claim(interval: MedianInterval, bound: float) -> str:
    if interval.confidence < CONFIDENCE:
        return "too few pairs"
    if interval.high <= bound:
        return "yes"
    return "no" if interval.low > bound else "the bound is in the interval"


def main() -> int:
    """Print a row for each row of the benchmark."""
    parser = command_line(__doc__)
    parser.add_argument("--before", type=Path, required=True, help="source tree")
    parser.add_argument("--after", type=Path, required=True, help="source tree")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--bound", type=float, default=1.02, help="largest ratio that counts as no slower")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- BENCHMARK and its arguments")
    arguments, machine = parser.parse_args(), describe_machine()
    command = [part for part in arguments.command if part != "--"] or ["engine"]
    trees = {BEFORE: arguments.before.resolve(), AFTER: arguments.after.resolve()}
    runs = interleaved(
        {name: partial(run, tree, command) for name, tree in trees.items()}, range(arguments.pairs)
    )
    rows = compare(runs[BEFORE], runs[AFTER], arguments.bound)
    heading = f"{' '.join(command)}: after over before, {arguments.pairs} pairs, bound {arguments.bound:g}"
    print_table(f"{heading}; {title(machine)}", COLUMNS, rows)
    write_json(arguments.json, machine, command=command, runs=runs, rows=rows)
    return 1 if any(row["no_slower"] == "no" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
