"""Output of `rcnn detect`: tables, or a format's text; failures on stderr; a progress bar on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from app.commands import CommandFailed
from app.commands.detect.inputs import Item
from app.commands.detect.output_files import Writer, printable
from app.commands.detect.result import ImageResult
from app.commands.shared.console import open_console, plain_table
from app.commands.shared.progress import new_bar

Write = Callable[[str], object]


class Report:
    """Prints results to stdout and failures to stderr, above the bar where there is one."""

    def __init__(self, out: Console, progress: Progress, writer: Writer | None, write: Write) -> None:
        self._out = out
        self._progress = progress
        self._writer = writer
        self._write = write
        self._images = self._objects = self._failed = 0

    @property
    def failed(self) -> int:
        """How many images have no detections."""
        return self._failed

    def result(self, item: Item, result: ImageResult) -> None:
        """The detections of one image."""
        self._images += 1
        self._objects += len(result.detections)
        if self._writer is not None:
            self._write(self._writer.add(item, result))
        else:
            self._print(item, result)
        self._advance()

    def failure(self, item: Item, error: Exception) -> None:
        """Why an image has no detections."""
        self._images += 1
        self._failed += 1
        if self._writer is not None:
            self._write(self._writer.fail(item, error))
        self._progress.console.print(Text(f"rcnn: {printable(item.shown)}: {error}"), soft_wrap=True)
        self._advance()

    def end(self) -> None:
        """Write the rest of a document, or the totals below several tables."""
        if self._writer is not None:
            self._write(self._writer.end())
        elif self._images > 1:
            failed = f" · {self._failed} failed" if self._failed else ""
            self._out.print(f"{self._images} images · {_objects(self._objects)}{failed}", style="bold")

    def _print(self, item: Item, result: ImageResult) -> None:
        size, count = f"{result.width}x{result.height}", _objects(len(result.detections))
        about = f"{size} · {count} · {result.timings_ms['total']:.0f} ms"
        self._out.print(Text.assemble((printable(item.shown), "bold"), f"  {about}"), soft_wrap=True)
        if len(result.detections):
            self._out.print(_table(result))

    def _advance(self) -> None:
        for task in self._progress.task_ids:
            self._progress.advance(task)


@contextmanager
def open_report(images: int | None, writer: Writer | None, out: Path | None) -> Iterator[Report]:
    """A report on `images` images, None for an unknown number; a terminal shows a bar unless it is one image.

    The writer's text goes into the file `out`, or to stdout; raises CommandFailed.
    """
    console, err = open_console(), Console(stderr=True)
    shown = images != 1 and err.is_terminal
    together = shown and console.is_terminal
    with ExitStack() as stack:
        write = (
            stack.enter_context(_open_file(out)) if out else _to_console(err) if together else _to_stdout()
        )
        progress = new_bar(err, "Detecting", shown=shown)
        stack.enter_context(progress).add_task("", total=images)
        yield Report(err if together else console, progress, writer, write)


@contextmanager
def _open_file(path: Path) -> Iterator[Write]:
    try:
        file = path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        text = f"--out {path}: {error.strerror}; name a file that can be written"
        raise CommandFailed(text) from error
    with file:

        def write(text: str) -> None:
            file.write(text)
            file.flush()

        yield write


def _to_console(console: Console) -> Write:
    """For a terminal that shows the bar too: the text goes above the bar."""

    def write(text: str) -> None:
        if text:
            console.print(Text(text), soft_wrap=True, end="")

    return write


def _to_stdout() -> Write:
    stdout = sys.stdout  # before the bar replaces it

    def write(text: str) -> None:
        stdout.write(text)
        stdout.flush()

    return write


def _objects(number: int) -> str:
    return f"{number} object{'' if number == 1 else 's'}"


def _table(result: ImageResult) -> Table:
    table = plain_table("name", numbers=("score", "x1", "y1", "x2", "y2"), pad_edge=True)
    for name, score, box in zip(result.names, result.detections.scores, result.detections.boxes, strict=True):
        table.add_row(Text(name), f"{score:.3f}", *(f"{value:.1f}" for value in box))
    return table
