"""Settings and terminal output of the commands."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.commands import CommandFailed
from app.settings.settings import Settings, explain


def read_settings(**typed: Any) -> Settings:
    """The settings; a typed value that is not None replaces the environment's. Raises CommandFailed."""
    try:
        return Settings(**{name: value for name, value in typed.items() if value is not None})
    except ValidationError as error:
        raise CommandFailed(explain(error)) from error


def open_console() -> Console:
    """Prints to stdout, as wide as the terminal; a pipe has no width, so nothing is cut to fit one."""
    console = Console()
    return console if console.is_terminal else Console(width=1000)


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
