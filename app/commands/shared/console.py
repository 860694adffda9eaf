"""Settings and terminal output of the commands."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.status import Status
from rich.table import Table
from rich.text import Text

from app.commands import CommandFailed
from app.settings.settings import Settings, explain

if TYPE_CHECKING:
    from models.zoo.download import Observe


def read_settings(**typed: Any) -> Settings:
    """The settings; a typed value that is not None replaces the environment's. Raises CommandFailed."""
    try:
        return Settings(**{name: value for name, value in typed.items() if value is not None})
    except ValidationError as error:
        raise CommandFailed(explain(error)) from error


def open_console() -> Console:
    """Prints to stdout, as wide as the terminal; a pipe has no width, so nothing is cut to fit one."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


def plain_table(*texts: str, numbers: Sequence[str] = (), pad_edge: bool = False) -> Table:
    """A table without lines: columns of text, then of numbers; the first column is not wrapped."""
    table = Table(box=None, header_style="dim", pad_edge=pad_edge)
    for index, title in enumerate(texts):
        table.add_column(title, no_wrap=index == 0)
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def print_warnings(texts: Iterable[str]) -> None:
    """Print a line for each on stderr."""
    err = Console(stderr=True)
    for text in texts:
        err.print(Text(f"rcnn: {text}"), soft_wrap=True)


@contextmanager
def loading_status() -> Iterator["Observe"]:
    """Shows on a terminal that the model is loading: the import of torch alone takes seconds.

    Yields what is told of downloads, and shows a bar of them.
    """
    stderr = Console(stderr=True)
    status = stderr.status("Loading the model") if stderr.is_terminal else None
    with status or nullcontext(), download_bar(status) as observe:
        yield observe


@contextmanager
def download_bar(status: Status | None = None) -> Iterator["Observe"]:
    """A bar of downloads on stderr, where that is a terminal; call what is yielded. It replaces `status`."""
    err = Console(stderr=True)
    columns = (
        TextColumn("Fetching {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    tasks: dict[str, TaskID] = {}

    def observe(name: str, done: int, total: int) -> None:
        if name not in tasks:
            if status is not None:
                status.stop()
            tasks[name] = progress.add_task(name, total=total or None)
            progress.start()
        progress.update(tasks[name], completed=done)
        if done == total:
            progress.stop()
            if status is not None:
                status.start()

    try:
        yield observe
    finally:
        progress.stop()


@contextmanager
def open_bar(images: int, title: str) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr, where that is a terminal; call the yielded function after each image."""
    err = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=err, transient=True, disable=not err.is_terminal, redirect_stdout=False
    ) as progress:
        yield partial(progress.advance, progress.add_task("", total=images))
