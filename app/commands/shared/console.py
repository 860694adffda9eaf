"""What a command starts from: the settings with what was typed over them, and a place to print to."""

from typing import Any

from pydantic import ValidationError
from rich.console import Console

from app.commands import CommandFailed
from app.settings.settings import Settings, explain


def read_settings(**typed: Any) -> Settings:
    """The settings, where what was typed (not None) goes before the environment; raises CommandFailed."""
    try:
        return Settings(**{name: value for name, value in typed.items() if value is not None})
    except ValidationError as error:
        raise CommandFailed(explain(error)) from error


def open_console() -> Console:
    """Prints to stdout, as wide as the terminal; a pipe has no width, so nothing is cut to fit one."""
    console = Console()
    return console if console.is_terminal else Console(width=200)
