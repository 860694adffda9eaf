"""The arguments about annotated images, which several commands share; every start reads this file."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

Data = Annotated[
    Path,
    Argument(
        help="Folder of annotated images (COCO, VOC, YOLO, CVAT, LabelMe, VIA, CSV), .json, .yaml or .zip.",
        exists=True,
        metavar="DATA",
    ),
]
Split = Annotated[str | None, Option(help="Only this part of the data: val, test, …; default: all of it.")]
Format = Annotated[
    Literal["coco", "voc", "yolo", "cvat", "labelme", "via", "csv"] | None,
    Option(help="Format of the annotations; default: detected."),
]
Boxes = Annotated[
    Literal["xywh", "xyxy", "normalized"] | None,
    Option(
        help="How the four numbers of a box are meant: x, y, width, height; two corners; or fractions of the "
        "image. Default: as the format says, unless all boxes say otherwise.",
    ),
]
Exif = Annotated[
    Literal["apply", "ignore"] | None,
    Option(
        help="Boxes of images that EXIF rotates are of the image as displayed (apply) or of its stored "
        "pixels (ignore). Default: recognised from the boxes."
    ),
]
Classes = Annotated[
    str | None, Option(help="Use only these classes of the data, separated by commas.", metavar="A,B")
]
Rename = Annotated[
    list[str] | None,
    Option(help="Rename a class; several with the same new name become one.", metavar="OLD=NEW"),
]
ValFraction = Annotated[
    float,
    Option(
        help="Share of the images for validation where the data has no split for it; the same images each "
        "time.",
        min=0.001,
        max=0.9,
    ),
]
