"""The command line of a benchmark, and its results as a table and as JSON."""

import argparse
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.harness.cards import HEAVY
from bench.harness.machine import Machine

WIDTH = 160

Row = Mapping[str, Any]
Columns = Mapping[str, str | Callable[[Row], object]]
"""Heading → a format string over the row's values (`"{ms:.1f}"`), or a function of the row."""


def command_line(description: str | None) -> argparse.ArgumentParser:
    """A parser that prints the description as it is written, and knows --json."""
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=kind)
    parser.add_argument(
        "--json", type=Path, help="write the results, with machine and versions, to this file"
    )
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model: what the service or the detector loads."""
    parser.add_argument("--model", default="shapes", help=f"name or path of a card, or {HEAVY}")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """--threads: of the model, in every process; by default one for each core."""
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help=f"of every model; default: {cores}")


def write_json(path: Path | None, machine: Machine, **results: object) -> None:
    """Write the results and the machine they belong to, if --json names a file."""
    if path:
        path.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")


def cells(columns: Columns, rows: Iterable[Row]) -> list[list[str]]:
    """The text of each cell; empty where the row lacks the value or it is NaN."""
    return [[_cell(column, row) for column in columns.values()] for row in rows]


def _cell(column: str | Callable[[Row], object], row: Row) -> str:
    try:
        text = str(column(row)) if callable(column) else column.format_map(row)
    except KeyError:
        return ""
    return "" if text == "nan" else text


def print_table(title: str, columns: Columns, rows: Iterable[Row], caption: str = "") -> None:
    """Print a table; a column is aligned to the right if all of its cells begin like a number."""
    lines = cells(columns, rows)
    table = Table()
    for index, heading in enumerate(columns):
        numeric = all(re.match(r"[+-]?\d|$|-$", line[index]) for line in lines)
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=index == 0)
    for line in lines:
        table.add_row(*line)
    console = Console(width=WIDTH, highlight=False)
    console.print(title, table, caption, sep="\n")


def replace_table(page: str, name: str, columns: Columns, rows: Iterable[Row], note: str = "") -> str:
    """The Markdown page with its table `name` and the note below, between two comments, replaced."""
    lines: list[Sequence[str]] = [list(columns), ["---"] * len(columns), *cells(columns, rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    table += f"\n{note}\n" if note else ""
    block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return block.sub(lambda match: match[1] + table + match[2], page)
