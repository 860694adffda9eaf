"""`rcnn settings`: the table of settings."""

from rich.table import Table
from rich.text import Text

from app.commands.arguments import SettingsArguments
from app.commands.shared.console import open_console, plain_table
from app.settings.table import settings_markdown, settings_table


def run(arguments: SettingsArguments) -> int:
    """List the settings; the exit code. Reads no environment, so it works with broken settings too."""
    if arguments.markdown:
        print(settings_markdown(), end="")
    else:
        open_console().print(_table())
    return 0


def _table() -> Table:
    table = plain_table("variable", "default", "allowed", "what for")
    for row in settings_table():
        table.add_row(Text(row.name, "bold"), *map(Text, (row.default, row.allowed, row.description)))
    return table
