"""The arguments of `rcnn detect`. Every start of `rcnn` reads this file, so it imports little."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, BadParameter, Option

from app.commands.detect.request_options import RequestOptions

STDIN = "-"
CAMERA = re.compile(r"camera:(\d{1,3})")


def is_pattern(argument: str) -> bool:
    """Whether an argument that is no file is a pattern."""
    return re.search(r"[*?[]", argument) is not None


def _check_images(arguments: list[str]) -> list[str]:
    for name in arguments:
        if not (name == STDIN or CAMERA.fullmatch(name) or is_pattern(name) or Path(name).exists()):
            raise BadParameter(
                f"{name!r} does not exist; name images, videos, folders, patterns in quotes, - or camera:0"
            )
    return arguments


@dataclass(frozen=True)
class DetectArguments(RequestOptions):
    """The images, the model or service, and the output."""

    images: Annotated[
        list[str],
        Argument(
            help="Images, videos, folders of images, patterns ('a/**/*.jpg'), - for an image on stdin, "
            "camera:0 for a camera.",
            callback=_check_images,
            metavar="IMAGE",
        ),
    ]
    save: Annotated[
        Path | None,
        Option(help="Write each image with its detections drawn, as PNG, into DIR.", metavar="DIR"),
    ] = None
    format: Annotated[
        Literal["table", "json", "ndjson", "coco", "yolo", "voc", "labelstudio", "csv", "geojson"] | None,
        Option(
            help="Output: a table; json, an array of responses of POST /detect; ndjson, one on each line; or "
            "files for annotation tools. yolo and voc need --out.",
            show_default="table",
        ),
    ] = None
    out: Annotated[
        Path | None,
        Option(
            help="Write to PATH, not to stdout: a file; for yolo and voc a folder for a file an image.",
            metavar="PATH",
        ),
    ] = None
    json: Annotated[bool, Option("--json", help="The same as --format ndjson.")] = False
    watch: Annotated[
        bool,
        Option("--watch", help="Wait for new images in the folders until Ctrl-C (exit code 130)."),
    ] = False
    every: Annotated[
        int, Option(help="Detect in each N-th frame of a video or camera.", metavar="N", min=1)
    ] = 1
    url: Annotated[str | None, Option(help="Use the service at URL instead of a model in this process.")] = (
        None
    )
    in_flight: Annotated[int, Option(help="With --url, requests at a time.", min=1, max=256, metavar="N")] = 4
    api_key: Annotated[str | None, Option(help="API key of the service; default: RCNN_API_KEY.")] = None
    model: Annotated[
        str | None,
        Option(
            help="A model of the zoo or a .toml card; with --url, a model of the service.",
            metavar="NAME|CARD",
        ),
    ] = None
