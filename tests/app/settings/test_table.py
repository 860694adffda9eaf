"""The table of settings: a line for each, with its purpose and what is allowed."""

import re

from app.settings.table import settings_markdown, settings_table


def test_every_setting_says_what_it_is_for_and_what_is_allowed() -> None:
    for row in settings_table():
        assert re.fullmatch(r"[A-Z].*\.", row.description), row
        assert row.default, row
        assert row.allowed, row


def test_the_table_has_a_line_for_each_setting() -> None:
    lines = settings_markdown().splitlines()[2:]
    assert len(lines) == len(settings_table())
    assert all(line.count("|") == 5 for line in lines)
    assert "| `RCNN_PORT` | 8000 | 0 to 65535 | The port to listen on; 0 is any free" in "\n".join(lines)
