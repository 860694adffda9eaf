"""Options of `rcnn detect`: written by `make options` from app.schemas.options, not by hand."""

from dataclasses import dataclass
from typing import Annotated

from typer import Option


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """Options of the detector; None is decided by the model's card."""

    # fmt: off
    score_threshold: Annotated[float | None, Option(min=0, max=1, help=
        "Minimum confidence: a number from 0 to 1.")] = None
    nms_threshold: Annotated[float | None, Option(min=0, max=1, help=
        "IoU above which NMS drops the lower-scoring of two boxes: a number from 0 to 1.")] = None
    max_detections: Annotated[int | None, Option(min=1, max=1000, help=
        "Maximum number of detections: a whole number from 1 to 1000.")] = None
    classes: Annotated[list[str] | None, Option(metavar="NAME,...", help=
        "Keep only these classes: names or ids of /labels, repeated or separated by commas; a name "
        "with a comma alone, or in double quotes.")] = None
    min_area: Annotated[float | None, Option(min=0, help=
        "Minimum box area in square pixels of the image: a number from 0.")] = None
    roi: Annotated[list[str] | None, Option(metavar="X1,Y1,X2,Y2", help=
        "Keep only boxes whose centre is in this region: x1,y1,x2,y2 of two corners, or x,y of "
        "three and more points; repeated for several regions. In pixels, or in fractions with "
        "`normalized`.")] = None
    size: Annotated[int | None, Option(min=64, max=8192, help=
        "Input size (short side) in pixels: a whole number from 64 to 8192.")] = None
    tile: Annotated[str | None, Option(metavar="auto|N", help=
        "Detect small objects of a large image in tiles of this side in pixels: a whole number from"
        " 64 to 8192, or auto, which uses tiles only where the network would see the image at less "
        "than half its size. Each tile costs as much as an image.")] = None
    tile_overlap: Annotated[float | None, Option(min=0, max=0.5, help=
        "Minimum overlap of neighbouring tiles as a fraction of their side: a number from 0 to 0.5."
        " Objects that are larger than the overlap may be cut.")] = None
    flip: Annotated[bool | None, Option(help=
        "Detect in the mirror image too, and merge both, at the cost of two images: true or false. "
        "With `tile`, in that of each tile too.")] = None
