"""What requests cost as work grows: `python -m bench.scale WHAT…`, or `all`.

image-size   MP of a JPEG, one request at a time         tiles        of one image, one request at a time
objects      in an image, one request at a time          batch        images of a batch in the detector
models       in one process, 16 connections together     connections  closed loops to one process
processes    that share the cores, 16 connections together

A table each: the ratio is to the first row. With --page it is written into a page, between its two marks.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.machine import describe_machine, title
from bench.harness.options import (
    Columns,
    add_model,
    add_threads,
    command_line,
    print_table,
    replace_table,
    write_json,
)
from bench.scale import batches, many_connections, one_connection
from bench.scale.many_connections import LOAD, with_ratios
from bench.scale.one_connection import STAGES, Case

CORES = len(os.sched_getaffinity(0))
Measure = Callable[[list[float], argparse.Namespace, Path], Iterator[dict[str, Any]]]


@dataclass(frozen=True)
class Curve:
    """A kind of work: its points, how each is measured, and the columns of its table."""

    points: Sequence[float]
    measure: Measure
    columns: Columns


def _one_by_one(cases: Callable[[list[float]], Iterator[Case]]) -> Measure:
    return lambda points, arguments, folder: one_connection.measure(list(cases(points)), arguments, folder)


CURVES = {
    "image-size": Curve(
        one_connection.IMAGE_MEGAPIXELS,
        _one_by_one(one_connection.image_sizes),
        {"MP": "{point:g}", "file, kB": lambda row: row["bytes"] // 1000, **STAGES},
    ),
    "objects": Curve(
        one_connection.OBJECTS,
        _one_by_one(one_connection.objects),
        {"drawn": "{point}", "detected": "{found}", **STAGES},
    ),
    "tiles": Curve(
        one_connection.TILES,
        _one_by_one(one_connection.tiles),
        {"tiles": "{point}", "side, px": "{side}", "detected": "{found}", **STAGES},
    ),
    "batch": Curve(batches.SIZES, batches.measure, {"batch": "{point}", **batches.COLUMNS}),
    "models": Curve(
        many_connections.MODELS,
        many_connections.models,
        {"models": "{point}", **LOAD, "ready, s": "{start_seconds:.1f}"},
    ),
    "connections": Curve(
        many_connections.CONNECTIONS, many_connections.connections, {"connections": "{point}", **LOAD}
    ),
    "processes": Curve(
        [2**power for power in range(CORES.bit_length())],
        many_connections.processes,
        {"processes": "{point}", "threads of each": "{threads}", **LOAD},
    ),
}


def main() -> None:
    """Measure, print, and write each table as soon as it is done."""
    arguments, machine = _arguments(), describe_machine()
    results: dict[str, list[dict[str, Any]]] = {}
    for what in list(CURVES) if "all" in arguments.what else arguments.what:
        curve = CURVES[what]
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            rows = list(curve.measure(arguments.points or list(curve.points), arguments, Path(folder)))
        results[what] = rows if "ratio" in rows[0] else with_ratios(rows)
        heading = f"{what}: {arguments.model}, {title(machine)}"
        print_table(heading, curve.columns, results[what])
        write_json(arguments.json, machine, model=arguments.model, results=results)
        if arguments.page:
            note = f"`python -m bench.scale {what}`, {arguments.model}, {title(machine)}. {arguments.note}"
            page = arguments.page.read_text()
            page = replace_table(page, f"scale-{what}", curve.columns, results[what], note.rstrip())
            arguments.page.write_text(page)


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    names = [*CURVES, "all"]
    parser.add_argument("what", nargs="+", choices=names, metavar="WHAT", help=", ".join(names))
    add_model(parser)
    parser.add_argument("--points", type=float, nargs="+", help="other values of what grows")
    parser.add_argument("--seconds", type=float, default=5, help="of each closed loop")
    parser.add_argument("--requests", type=int, default=5, help="one at a time, of each point in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", type=Path, help="a page whose tables are replaced")
    parser.add_argument("--note", default="", help="a sentence below the table: what else the machine did")
    add_threads(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
