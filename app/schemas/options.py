"""The wire: what a client may send and what it gets back. Nothing but shapes; descriptions name the units."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic.functional_validators import ModelWrapValidatorHandler

from models.tiling.tiles import LARGEST_OVERLAP, LARGEST_SIDE, OVERLAP, SMALLEST_SIDE

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
AnswerFormat = Literal["json", "png", "jpeg"]
StreamFormat = Literal["ndjson", "png", "jpeg"]
ExportFormat = Literal["coco", "yolo", "voc", "labelstudio", "csv", "geojson"]
Status = Literal["loading", "ok", "degraded", "draining", "failing"]

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1000)]
FileName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]{1,255}$")]
Side = Annotated[int, Field(ge=64, le=1333)]


def _one_message(value: Any, check: ModelWrapValidatorHandler[Any]) -> Any:
    """One fault instead of one for each of the alternatives."""
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError(f"must be auto or a whole number from {SMALLEST_SIDE} to {LARGEST_SIDE}") from error


Tile = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE)] | None,
    WrapValidator(_one_message),
]


class Wire(BaseModel):
    """A value on the wire: an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DetectOptions(Wire):
    """Query options of every detection; what is not given comes from the model's card."""

    score_threshold: Fraction | None = Field(
        default=None, description="Leave out detections below this score: a number from 0 to 1."
    )
    nms_threshold: Fraction | None = Field(
        default=None,
        description="Of two boxes that overlap by more than this IoU, keep the better: a number from 0 to 1.",
    )
    max_detections: Count | None = Field(
        default=None, description="At most this many detections: a whole number from 1 to 1000."
    )
    classes: list[str] = Field(
        default=[],
        max_length=1000,
        description="Only these classes: names or ids out of /labels, repeated or separated by commas.",
    )
    class_agnostic: bool = Field(
        default=False, description="Let boxes of different classes suppress one another: true or false."
    )
    box_format: BoxFormat = Field(
        default="xyxy",
        description="xyxy (corners), xywh (corner and size) or cxcywh (centre and size).",
    )
    normalized: bool = Field(
        default=False,
        description="Boxes as fractions of the image's width and height, not pixels: true or false.",
    )
    size: Side | None = Field(
        default=None,
        description="Short side in pixels that the image is resized to: a whole number from 64 to 1333.",
    )
    timeout_ms: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Give up after so many milliseconds: a whole number from 1 to the server's own limit.",
    )
    priority: Annotated[int, Field(ge=0, le=2)] | None = Field(
        default=None,
        description="Who goes first and is refused last: a whole number from 0 to 2, the highest; else 1.",
    )
    tile: Tile = Field(
        default=None,
        description="Cut a large image into tiles of so many of its pixels a side, for small objects: a "
        f"whole number from {SMALLEST_SIDE} to {LARGEST_SIDE}, or auto, which cuts where the network "
        "would see the image at less than half its size. Each tile costs what an image costs.",
    )
    tile_overlap: Annotated[float, Field(ge=0, le=LARGEST_OVERLAP, allow_inf_nan=False)] = Field(
        default=OVERLAP,
        description="Least overlap of neighbouring tiles as a share of their side: a number from 0 to "
        f"{LARGEST_OVERLAP}. What is larger may be cut by both.",
    )

    def class_tokens(self) -> Iterator[str]:
        """The names and ids in `classes`, split at commas."""
        for value in self.classes:
            yield from (token.strip() for token in value.split(",") if token.strip())


class DetectQuery(DetectOptions):
    """Query options of POST /detect."""

    format: Literal[AnswerFormat, ExportFormat] | None = Field(
        default=None,
        description="json; the image with its detections drawn: png or jpeg; or a file for an annotation "
        "tool: coco, yolo, voc, labelstudio, csv or geojson, with its own boxes. Stronger than Accept.",
    )
    file_name: FileName = Field(
        default="image", description="The image's name in such a file: 1 to 255 printable characters."
    )


class StreamQuery(DetectOptions):
    """Query options of POST /detect/stream."""

    every: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="Detect the first frame and every so many after it: a number from 1 to 1000."
    )
    max_frames: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Stop after so many detected frames: a whole number from 1 to the server's own limit.",
    )
    format: StreamFormat | None = Field(
        default=None,
        description="ndjson (a line of JSON a frame), or the drawn frames as parts of "
        "multipart/x-mixed-replace: jpeg or png. Stronger than Accept.",
    )


class ImageBody(Wire):
    """JSON body of POST /detect."""

    image: str = Field(
        description="The image file in base64; a data:image/…;base64, prefix and line breaks are allowed."
    )
