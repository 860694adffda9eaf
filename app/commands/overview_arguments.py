"""Arguments of the commands that show what is here: models, settings, measurements."""

from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True)
class BenchLineageArguments:
    """The network, the images, and the share of R-CNN's work that is timed."""

    architecture: Annotated[str, Option(help="Architecture, as in a model card.")] = "small"
    images: Annotated[
        Path | None,
        Option(help="Folder of images; default: drawn scenes.", metavar="DIR", exists=True, file_okay=False),
    ] = None
    count: Annotated[int, Option(help="At most this many images.", min=1)] = 4
    proposals: Annotated[int, Option(help="Maximum Selective Search proposals an image.", min=1)] = 2000
    crops: Annotated[
        int, Option(help="Proposals an image that R-CNN is timed on; the time is scaled to all.", min=1)
    ] = 64
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.")] = "auto"
    json: Json = False
