"""The settings as a table, for `rcnn settings` and docs/settings.md."""

from dataclasses import dataclass

from app.settings.environment import PREFIX
from app.settings.settings import Settings, allowed_values


@dataclass(frozen=True)
class SettingRow:
    """One line of the table of settings."""

    name: str
    default: str
    allowed: str
    description: str


def settings_table() -> list[SettingRow]:
    """Every setting in the order of declaration."""
    return [
        SettingRow(
            PREFIX + name.upper(), _shown(field.default), allowed_values(field), field.description or ""
        )
        for name, field in Settings.model_fields.items()
    ]


def settings_markdown() -> str:
    """The table of settings in docs/settings.md: variable, default, allowed values, description."""
    rows = [
        f"| `{row.name}` | {row.default} | {row.allowed} | {row.description} |" for row in settings_table()
    ]
    return (
        "\n".join(["| Variable | Default | Allowed | What for |", "| --- | --- | --- | --- |", *rows]) + "\n"
    )


def _shown(default: object) -> str:
    return "none" if default in (None, ()) else str(default)
