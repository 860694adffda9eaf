"""Arguments of the commands that show what is here: models, settings, this machine."""

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from app.commands.arguments import Json


@dataclass(frozen=True)
class ModelsArguments:
    """The output."""

    json: Json = False


@dataclass(frozen=True)
class SettingsArguments:
    """The output."""

    markdown: Annotated[bool, Option("--markdown", help="The table as Markdown, as in docs/.")] = False
    json: Annotated[bool, Option("--json", help="JSON instead of a table.")] = False
    env: Annotated[
        bool, Option("--env", help="A file of variables to edit: each setting with its default.")
    ] = False


@dataclass(frozen=True)
class DoctorArguments:
    """The output."""

    json: Json = False
