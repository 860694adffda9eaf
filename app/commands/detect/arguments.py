"""What a person may type after `rcnn detect`. Every start reads this file, so it imports little."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, BadParameter, Option

from app.commands.arguments import Model

STDIN = "-"
CAMERA = re.compile(r"camera:(\d{1,3})")


def is_pattern(source: str) -> bool:
    """Whether a source that is no file is a pattern of several."""
    return re.search(r"[*?[]", source) is not None


def _check_sources(sources: list[str]) -> list[str]:
    for source in sources:
        known = source == STDIN or CAMERA.fullmatch(source) or is_pattern(source) or Path(source).exists()
        if not known:
            raise BadParameter(
                f"{source!r} does not exist; name images, videos, folders, patterns in quotes, - or camera:0"
            )
    return sources


@dataclass(frozen=True)
class DetectArguments:
    """The images, who detects, with which options, and what comes out."""

    images: Annotated[
        list[str],
        Argument(
            help="Images, videos, folders of images, patterns ('a/**/*.jpg'), - for an image on stdin, "
            "camera:0 for a camera.",
            callback=_check_sources,
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
            help="What is written: a table for people; an array of what POST /detect answers, or a line "
            "each; or files for annotation tools. yolo and voc need --out.",
            show_default="table",
        ),
    ] = None
    out: Annotated[
        Path | None,
        Option(
            help="Write it here, not to stdout: a file; for yolo and voc a folder, with a file an image.",
            metavar="PATH",
        ),
    ] = None
    json: Annotated[bool, Option("--json", help="The same as --format ndjson.")] = False
    watch: Annotated[
        bool,
        Option("--watch", help="Go on with the images that come into the folders, until Ctrl-C (code 130)."),
    ] = False
    every: Annotated[int, Option(help="Of a video or camera, take each N-th frame.", metavar="N", min=1)] = 1
    url: Annotated[str | None, Option(help="Ask the service at URL instead of loading a model here.")] = None
    in_flight: Annotated[
        int, Option(help="At a service, so many images at a time.", min=1, max=256, metavar="N")
    ] = 4
    api_key: Annotated[str | None, Option(help="API key of that service.")] = None
    model: Model = None
    score_threshold: Annotated[
        float | None, Option(help="Leave out detections below this score.", min=0, max=1)
    ] = None
    nms_threshold: Annotated[
        float | None,
        Option(help="Of two boxes that overlap by more than this IoU, keep the better.", min=0, max=1),
    ] = None
    max_detections: Annotated[
        int | None, Option(help="At most this many detections an image.", min=1, max=1000)
    ] = None
    classes: Annotated[
        list[str] | None,
        Option(help="Only these classes: names or ids, repeated or separated by commas.", metavar="NAME,..."),
    ] = None
    size: Annotated[
        int | None, Option(help="Short side in pixels that images are resized to.", min=64, max=1333)
    ] = None
    tile: Annotated[
        str | None,
        Option(help="Cut large images into tiles of N of their pixels a side, or auto.", metavar="auto|N"),
    ] = None
    tile_overlap: Annotated[
        float | None,
        Option(
            help="Least overlap of neighbouring tiles, as a share of their side; 0.2 without this.",
            min=0,
            max=0.5,
        ),
    ] = None
