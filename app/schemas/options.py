"""The options of a request. `DetectOptions` is their only declaration: name, bounds, default and help.

Query, form, JSON, Open Inference parameters, gRPC, web socket, OpenAPI and command line read it. An option of
the detector also has a field of that name in models/options.py, and takes effect where the detector uses it.
"""

import csv
from collections.abc import Container, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from reprlib import repr as short_repr
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import ErrorDetails, PydanticCustomError

from app.schemas.limits import (
    MAX_CLASSES,
    MAX_CLASSES_TEXT,
    MAX_MODEL_NAME,
    MAX_MODELS,
    MAX_QUOTED,
    MAX_QUOTED_FAULTS,
    MAX_REGIONS,
)
from app.schemas.regions import RegionList
from models.regions import Regions
from models.tiling.tiles import LARGEST_OVERLAP, LARGEST_SIDE, OVERLAP, SMALLEST_SIDE, Tiling

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
AnswerFormat = Literal["json", "png", "jpeg"]
JsonFormat = Literal["json", "objects"]
StreamFormat = Literal["ndjson", "objects", "png", "jpeg"]
ExportFormat = Literal["coco", "yolo", "voc", "labelstudio", "csv", "geojson"]
Status = Literal["loading", "ok", "degraded", "draining", "failing"]

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1000)]
FileName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]{1,255}$")]
Side = Annotated[int, Field(ge=64, le=8192)]


def _one_message(value: Any, check: ModelWrapValidatorHandler[Any]) -> Any:
    """One error instead of one for each of the alternatives."""
    try:
        return check(value)
    except ValidationError as error:
        bounds = {"low": SMALLEST_SIDE, "high": LARGEST_SIDE}
        text = "must be auto or a whole number from {low} to {high}"
        raise PydanticCustomError("tile", text, bounds) from error


Tile = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE)] | None,
    WrapValidator(_one_message),
]


def _listed(classes: object) -> object:
    """One name as a list of it, and ids as texts."""
    if isinstance(classes, str):
        return [classes]
    if isinstance(classes, list):
        return [str(one) if type(one) is int else one for one in classes]
    return classes


def unknown_option(name: str, allowed: Sequence[str], kind: str = "parameter") -> str:
    """The text for an option that does not exist: similar names, and all that do."""
    near = get_close_matches(name[:MAX_QUOTED].lower(), allowed, 1, 0.8) or get_close_matches(
        name[:MAX_QUOTED].lower(), allowed, 2
    )
    hint = f", did you mean {' or '.join(near)}?" if near else ";"
    return f"unknown {kind} {name[:MAX_QUOTED]!r}{hint} allowed are {', '.join(allowed)}"


def _split(text: str) -> list[str]:
    try:
        return [token for row in csv.reader([text], skipinitialspace=True) for token in row]
    except csv.Error:  # a line break
        return text.split(",")


def _check_length(classes: list[str]) -> list[str]:
    if sum(map(len, classes)) > MAX_CLASSES_TEXT:
        text = "the names together should have at most {most} characters"
        raise PydanticCustomError("classes", text, {"most": MAX_CLASSES_TEXT})
    return classes


ModelName = Annotated[str, Field(min_length=1, max_length=MAX_MODEL_NAME)]
ModelNames = Annotated[list[ModelName], BeforeValidator(_listed)]


class Wire(BaseModel):
    """A value on the wire: an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OptionSet(Wire):
    """Options whose validation error is one text for the client: each wrong option, its value, its help.

    The context of the error has the first faults as pydantic reports them, as `faults`.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _explain_errors(cls, values: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(values, Mapping):  # of more names than there are options, one is unknown
            values = dict(islice(values.items(), len(cls.model_fields) + MAX_QUOTED_FAULTS))
        try:
            return validate(values)
        except ValidationError as error:
            faults = error.errors(include_url=False)[:MAX_QUOTED_FAULTS]
            text = "; ".join(cls._explanations(faults))
            raise PydanticCustomError("options", "{text}", {"text": text, "faults": faults}) from error

    @classmethod
    def _explanations(cls, faults: list[ErrorDetails]) -> Iterator[str]:
        for fault in faults:
            name = ".".join(map(str, fault["loc"][:1]))[:MAX_QUOTED]
            message = fault["msg"][:1].lower() + fault["msg"][1:]
            if fault["type"] == "extra_forbidden":
                yield unknown_option(name, tuple(cls.model_fields))
            elif name in cls.model_fields:
                value = fault["input"] if isinstance(fault["input"], str) else short_repr(fault["input"])
                yield f"{name}={value[:MAX_QUOTED]!r}: {message}. {cls.model_fields[name].description}"
            else:  # no options at all, such as a list in their place
                yield "must be an object of options by their names"


class DetectOptions(OptionSet):
    """Options of every detection; an option that is not given comes from the model's card."""

    score_threshold: Fraction | None = Field(
        default=None, description="Minimum confidence: a number from 0 to 1."
    )
    nms_threshold: Fraction | None = Field(
        default=None,
        description="IoU above which NMS drops the lower-scoring of two boxes: a number from 0 to 1.",
    )
    max_detections: Count | None = Field(
        default=None, description="Maximum number of detections: a whole number from 1 to 1000."
    )
    classes: Annotated[list[str], BeforeValidator(_listed), AfterValidator(_check_length)] = Field(
        default=[],
        max_length=MAX_CLASSES,
        description="Keep only these classes: names or ids of /labels, repeated or separated by commas; a "
        "name with a comma alone, or in double quotes.",
    )
    class_agnostic: bool = Field(
        default=False, description="Apply NMS across classes instead of within each class: true or false."
    )
    min_area: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0, description="Minimum box area in square pixels of the image: a number from 0."
    )
    roi: RegionList = Field(
        default=[],
        max_length=MAX_REGIONS,
        description="Keep only boxes whose centre is in this region: x1,y1,x2,y2 of two corners, or x,y of "
        "three and more points; repeated for several regions. In pixels, or in fractions with `normalized`.",
    )
    box_format: BoxFormat = Field(
        default="xyxy",
        description="Box format: xyxy (corners), xywh (corner and size) or cxcywh (centre and size).",
    )
    normalized: bool = Field(
        default=False,
        description="Boxes as fractions of the image's width and height instead of pixels: true or false.",
    )
    size: Side | None = Field(
        default=None,
        description="Input size (short side) in pixels: a whole number from 64 to 8192.",
    )
    timeout_ms: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Deadline in milliseconds: a whole number from 1 to the server's limit.",
    )
    priority: Annotated[int, Field(ge=0, le=2)] | None = Field(
        default=None,
        description="Scheduling priority: a whole number from 0 (lowest) to 2 (highest); the default is 1.",
    )
    tile: Tile = Field(
        default=None,
        description="Detect small objects of a large image in tiles of this side in pixels: a whole number "
        f"from {SMALLEST_SIDE} to {LARGEST_SIDE}, or auto, which uses tiles only where the network would see "
        "the image at less than half its size. Each tile costs as much as an image.",
    )
    tile_overlap: Annotated[float, Field(ge=0, le=LARGEST_OVERLAP, allow_inf_nan=False)] = Field(
        default=OVERLAP,
        description="Minimum overlap of neighbouring tiles as a fraction of their side: a number from 0 to "
        f"{LARGEST_OVERLAP}. Objects that are larger than the overlap may be cut.",
    )
    flip: bool = Field(
        default=False,
        description="Detect in the mirror image too, and merge both, at the cost of two images: true or "
        "false. With `tile`, in that of each tile too.",
    )

    def tiling(self) -> Tiling | None:
        """How to cut and flip the image; None where neither `tile` nor `flip` is given."""
        if self.tile is None and not self.flip:
            return None
        side = None if self.tile == "auto" else self.tile
        return Tiling(side, self.tile_overlap, flip=self.flip, cut=self.tile is not None)

    def regions(self) -> Regions | None:
        """The regions in `roi`, None for the whole image."""
        return Regions(tuple(self.roi), self.normalized) if self.roi else None

    def contradiction(self) -> str | None:
        """Which options do not fit together, and what to do; None if they do. Query and body are one then."""
        if self.roi and self.normalized and max(map(max, self.roi)) > 1:
            return "roi: with normalized=true its numbers are fractions of the image, from 0 to 1"
        return None

    def class_tokens(self, names: Container[str]) -> Iterator[str]:
        """The names and ids in `classes`: `names` (casefolded) as they are, others split at commas as CSV."""
        for value in self.classes:
            tokens = [value] if value.strip().casefold() in names else _split(value)
            yield from (token.strip() for token in tokens if token.strip())


class ModelOptions(DetectOptions):
    """Options of our own routes: also the model, which other protocols name their own way."""

    model: ModelNames = Field(
        default=[],
        max_length=MAX_MODELS,
        description="Name of the model, as in /models, or an alias of the server; if not given, the server's "
        "default model. POST /detect takes several, repeated, and answers each by its name.",
    )
    format: str | None = None

    @property
    def as_objects(self) -> bool:
        """Whether detections are listed as objects."""
        return self.format == "objects"

    def contradiction(self) -> str | None:
        """As of DetectOptions, and the box format of objects."""
        if self.as_objects and self.box_format != "xyxy":
            return (
                f"box_format={self.box_format}: format=objects has boxes as x1, y1, x2, y2; leave box_format "
                "out, or take format=json"
            )
        return super().contradiction()


class JsonQuery(ModelOptions):
    """Options of POST /detect/batch and of WS /detect/live."""

    format: JsonFormat | None = Field(
        default=None,
        description="json (lists of boxes, labels, scores and names), or objects (one list of objects).",
    )


class DetectQuery(ModelOptions):
    """Query options of POST /detect."""

    format: Literal[AnswerFormat, "objects", ExportFormat] | None = Field(
        default=None,
        description="Response format: json; objects (JSON with one list of objects); png or jpeg (the image "
        "with its detections drawn); or a file of an annotation tool: coco, yolo, voc, labelstudio, csv or "
        "geojson, with that tool's own boxes. Overrides the Accept header.",
    )
    file_name: FileName = Field(
        default="image", description="Name of the image in such a file: 1 to 255 printable characters."
    )


class StreamQuery(ModelOptions):
    """Query options of POST /detect/stream."""

    every: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="Detect every n-th frame, from the first: a whole number from 1 to 1000."
    )
    max_frames: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Maximum number of detected frames: a whole number from 1 to the server's limit.",
    )
    format: StreamFormat | None = Field(
        default=None,
        description="Response format: ndjson (a line of JSON for each frame), objects (the same, with one "
        "list of objects), or jpeg or png (the drawn frames as parts of multipart/x-mixed-replace). "
        "Overrides the Accept header.",
    )
