"""The arguments and options of `rcnn import`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option


@dataclass(frozen=True)
class ImportArguments:
    """The checkpoint, what it does not say itself, and the output."""

    checkpoint: Annotated[
        Path,
        Argument(
            help="Checkpoint of detectron2, mmdetection, torchvision or Lightning.",
            exists=True,
            dir_okay=False,
            metavar="CHECKPOINT",
        ),
    ]
    out: Annotated[Path, Option(help="Write NAME.toml and NAME.safetensors into DIR.", metavar="DIR")]
    config: Annotated[
        Path | None,
        Option(
            help="config.yaml of detectron2, config.py of mmdetection.",
            exists=True,
            dir_okay=False,
            metavar="FILE",
        ),
    ] = None
    labels: Annotated[
        str | None,
        Option(
            help="Class names without the background: a file, one a line, or a,b,c.", metavar="FILE|NAMES"
        ),
    ] = None
    name: Annotated[str | None, Option(help="Name of the model; default: made of the checkpoint's path.")] = (
        None
    )
