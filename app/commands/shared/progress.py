"""The progress bar of all commands: on a terminal, with a title, a count and the time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.status import Status

if TYPE_CHECKING:
    from models.zoo.download import Observe


def new_bar(console: Console, title: str, *more: ProgressColumn, shown: bool = True) -> Progress:
    """A bar that goes when it is done; `more` takes the place of the count. Without a terminal: nothing.

    What is printed on stdout meanwhile stays as it is, as it may be a document.
    """
    columns = (TextColumn(title), BarColumn(), *(more or (MofNCompleteColumn(),)), TimeRemainingColumn())
    shown = shown and console.is_terminal and not console.quiet
    return Progress(*columns, console=console, transient=True, disable=not shown, redirect_stdout=False)


@contextmanager
def open_bar(images: int | None, title: str) -> Iterator[Callable[[], None]]:
    """A bar on stderr; call the yielded function after each image. None: an unknown number."""
    with new_bar(Console(stderr=True), title) as progress:
        yield partial(progress.advance, progress.add_task("", total=images))


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
def download_bar(status: Status | Progress | None = None) -> Iterator["Observe"]:
    """A bar of downloads on stderr; call what is yielded. It replaces `status` meanwhile."""
    progress = new_bar(Console(stderr=True), "Fetching {task.description}", DownloadColumn())
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
