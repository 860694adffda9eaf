"""What `rcnn detect` prints: a table or a JSON line an image, and a progress bar where a person looks on."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from app.client import Refused, Result
from app.commands.configured import open_console


class Report:
    """Prints results to stdout and failures to stderr, above the bar where there is one."""

    def __init__(self, out: Console, progress: Progress, as_json: bool) -> None:
        self._out = out
        self._progress = progress
        self._as_json = as_json

    def result(self, file: Path, result: Result) -> None:
        """The detections of one image."""
        if self._as_json:
            self._line({"file": _shown(file), **result.to_dict()})
            return
        objects = f"{len(result)} object{'' if len(result) == 1 else 's'}"
        about = f"{result.width}x{result.height} · {objects} · {result.timings_ms['total']:.0f} ms"
        self._out.print(Text.assemble((_shown(file), "bold"), f"  {about}"), soft_wrap=True)
        if len(result):
            self._out.print(_table(result))

    def failure(self, file: Path, error: Exception) -> None:
        """Why an image has no detections."""
        if self._as_json:
            code = error.code if isinstance(error, Refused) else "failed"
            self._line({"file": _shown(file), "error": {"code": code, "detail": str(error)}})
        self._progress.console.print(Text(f"rcnn: {_shown(file)}: {error}"), soft_wrap=True)

    def advance(self) -> None:
        """One image is done with."""
        for task in self._progress.task_ids:
            self._progress.advance(task)

    def _line(self, value: object) -> None:
        self._out.print(Text(json.dumps(value, ensure_ascii=False)), soft_wrap=True)


@contextmanager
def open_report(images: int, as_json: bool) -> Iterator[Report]:
    """A report on so many images; its bar shows only for several, and only on a terminal."""
    out, err = open_console(), Console(stderr=True)
    columns = (TextColumn("Detecting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = images > 1 and err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=not shown) as progress:
        progress.add_task("", total=images)
        yield Report(err if shown and out.is_terminal else out, progress, as_json)


def _shown(file: Path) -> str:
    """The path as text; bytes that are no UTF-8 become question marks, for printing them would fail."""
    return os.fsencode(file).decode(errors="replace")


def _table(result: Result) -> Table:
    table = Table(box=None, pad_edge=True, header_style="dim")
    table.add_column("name")
    table.add_column("score", justify="right", no_wrap=True)
    for corner in ("x1", "y1", "x2", "y2"):
        table.add_column(corner, justify="right", no_wrap=True)
    for name, score, box in zip(result.names, result.scores, result.boxes, strict=True):
        table.add_row(Text(name), f"{score:.3f}", *(f"{value:.1f}" for value in box))
    return table
