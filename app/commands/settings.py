"""`rcnn settings`: every setting, for a terminal, a program, docs/ or a file of variables."""

import json
import textwrap
from dataclasses import asdict

from rich.text import Text

from app.commands import USAGE, CommandFailed
from app.commands.overview_arguments import SettingsArguments
from app.commands.shared.console import open_console, plain_table
from app.settings.table import SettingRow, settings_markdown, settings_table

WIDTH = 78  # of the comments in a file of variables


def run(arguments: SettingsArguments) -> int:
    """List the settings; the exit code. Reads no environment, so it works with broken settings too."""
    if arguments.markdown + arguments.json + arguments.env > 1:
        raise CommandFailed("--markdown, --json and --env exclude each other; give one", USAGE)
    if arguments.markdown:
        print(settings_markdown(), end="")
    elif arguments.json:
        print(json.dumps([asdict(row) for row in settings_table()], indent=2))
    elif arguments.env:
        print("\n".join(_variable(row) for row in settings_table()), end="")
    else:
        _print_table()
    return 0


def _print_table() -> None:
    """Two columns, so that it can be read at 80 characters: a name; its default, allowed values, purpose."""
    table = plain_table("variable", "default, allowed values, what for")
    for row in settings_table():
        values = Text.assemble((row.default, "bold"), (f"  ({row.allowed})", "dim"))
        table.add_row(Text(row.name, "bold"), Text("\n").join([values, Text(row.description)]))
    open_console().print(table)


def _variable(row: SettingRow) -> str:
    """A line with the default, as a comment, below what it is for."""
    text = f"{row.description} Allowed: {row.allowed}."
    default = "" if row.default == "none" else row.default
    return "\n".join([*(f"# {line}" for line in textwrap.wrap(text, WIDTH)), f"#{row.name}={default}", ""])
