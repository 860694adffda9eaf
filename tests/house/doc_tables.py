"""The tables of docs/ that the code generates; `python -m tests.house.doc_tables` writes them again."""

import re
from collections.abc import Callable

from app.errors import errors_markdown
from app.settings.table import settings_markdown
from app.telemetry.metrics import metrics_markdown
from tests.house.rules import ROOT

DOCS = ROOT / "docs"
TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "errors": ("api.md", errors_markdown),
    "settings": ("settings.md", settings_markdown),
    "metrics": ("metrics.md", metrics_markdown),
}
"""Name of a table to its page and the function that returns it."""


def table_pattern(name: str) -> re.Pattern[str]:
    """Matches what lies between the table's two marks."""
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)


def with_table(page: str, name: str, table: str) -> str:
    """The page with that table between its marks."""
    return table_pattern(name).sub(lambda _: table.strip() + "\n", page)


def write_tables() -> None:
    """Write each table into its page."""
    for name, (page, table) in TABLES.items():
        (DOCS / page).write_text(with_table((DOCS / page).read_text(), name, table()))


if __name__ == "__main__":
    write_tables()
