"""The options of `rcnn captures export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

Format = Literal["coco", "cvat", "labelstudio", "yolo"]


@dataclass(frozen=True)
class CapturesExportArguments:
    """The captures, the format and the folder."""

    to: Annotated[
        Format,
        Option(
            help="coco; cvat: CVAT for images; labelstudio: tasks with predictions; yolo: with data.yaml."
        ),
    ]
    out: Annotated[Path, Option(help="Folder to write: a new or an empty one.", metavar="DIR")]
    data: Annotated[
        Path | None,
        Option(
            help="Folder of the captures; default: RCNN_CAPTURE_DIR.",
            metavar="DIR",
            exists=True,
            file_okay=False,
        ),
    ] = None
    model: Annotated[
        str | None,
        Option(help="Only captures of this model; needed where there are several.", metavar="NAME"),
    ] = None
