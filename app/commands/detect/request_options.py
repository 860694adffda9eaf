"""Options of `rcnn detect`: written by `make options` from app.schemas.options, not by hand."""

from dataclasses import dataclass
from typing import Annotated

from typer import Option


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """Options of the detector; None is decided by the model's card."""

    # fmt: off
    score_threshold: Annotated[float | None, Option(min=0, max=1, help=
        "Leave out detections below this score: a number from 0 to 1.")] = None
    nms_threshold: Annotated[float | None, Option(min=0, max=1, help=
        "Of two boxes that overlap by more than this IoU, keep the better: a number from 0 to 1.")] = None
    max_detections: Annotated[int | None, Option(min=1, max=1000, help=
        "At most this many detections: a whole number from 1 to 1000.")] = None
    classes: Annotated[list[str] | None, Option(metavar="NAME,...", help=
        "Only these classes: names or ids out of /labels, repeated or separated by commas.")] = None
    size: Annotated[int | None, Option(min=64, max=1333, help=
        "Short side in pixels that the image is resized to: a whole number from 64 to 1333.")] = None
    tile: Annotated[str | None, Option(metavar="auto|N", help=
        "Cut a large image into tiles of so many of its pixels a side, for small objects: a whole "
        "number from 64 to 8192, or auto, which cuts where the network would see the image at less "
        "than half its size. Each tile costs what an image costs.")] = None
    tile_overlap: Annotated[float | None, Option(min=0, max=0.5, help=
        "Least overlap of neighbouring tiles as a share of their side: a number from 0 to 0.5. What"
        " is larger may be cut by both.")] = None
