"""`rcnn settings`: the table of settings."""

from rich.table import Table
from rich.text import Text

from app.commands.arguments import SettingsArguments
from app.commands.shared.console import open_console
from app.settings.table import settings_markdown, settings_table


def run(arguments: SettingsArguments) -> int:
    """List the settings; the exit code. Reads no environment, so it works with broken settings too."""
    if arguments.markdown:
        print(settings_markdown(), end="")
    else:
        open_console().print(_table())
    return 0


def _table() -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("variable", style="bold", no_wrap=True)
    for title in ("default", "allowed", "what for"):
        table.add_column(title)
    for row in settings_table():
        table.add_row(*(Text(cell) for cell in (row.name, row.default, row.allowed, row.description)))
    return table
