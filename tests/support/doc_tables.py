"""The tables of docs/ that the code generates; `python -m tests.support.doc_tables` writes them again."""

import re
from collections.abc import Callable

from app.errors import errors_markdown
from app.settings.table import settings_markdown
from app.telemetry.metrics import metrics_markdown
from tests.support.served import ROOT

DOCS = ROOT / "docs"
TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "errors": ("api.md", errors_markdown),
    "settings": ("settings.md", settings_markdown),
    "metrics": ("metrics.md", metrics_markdown),
}
"""Name of a table to its page and the function that returns it."""


def marked(name: str) -> re.Pattern[str]:
    """The table between its two marks."""
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)


def write() -> None:
    """Write each table into its page."""
    for name, (page, table) in TABLES.items():
        text = (DOCS / page).read_text()
        (DOCS / page).write_text(marked(name).sub(lambda _, table=table: table().strip() + "\n", text))


if __name__ == "__main__":
    write()
