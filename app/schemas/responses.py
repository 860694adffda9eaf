"""The responses of the routes, as pydantic types: detections, frames, problems."""

from typing import Annotated, Literal

from pydantic import Field

from app.schemas.options import BoxFormat, Wire

BoxNumbers = Annotated[list[float], Field(min_length=4, max_length=4)]


class ImageSize(Wire):
    """Size in pixels of the image as displayed (EXIF orientation applied)."""

    width: int
    height: int
    truncated: bool = Field(
        default=False,
        exclude_if=lambda truncated: not truncated,
        description="A part of the image file was missing (RCNN_TRUNCATED_IMAGES); absent if it was whole",
    )


class TimingsMs(Wire):
    """Time of one image in milliseconds; inference and postprocess are those of its batch."""

    decode: float = Field(description="decoding, resizing and padding")
    queue: float = Field(description="waiting for the device")
    inference: float = Field(description="the network, for the batch of this image")
    postprocess: float = Field(description="score threshold, NMS and top-k, for the batch of this image")
    total: float = Field(description="from the arrival of the request to its response")


class _Columns(Wire):
    boxes: list[BoxNumbers] = Field(description="(N, 4) in `box_format`; pixels, or fractions if normalized")
    labels: list[int] = Field(description="(N) class ids, see /labels")
    scores: list[float] = Field(description="(N) from 0 to 1")
    names: list[str] = Field(description="(N) class names")


class Box(Wire):
    """Two corners of a box, in pixels, or in fractions if normalized."""

    x1: float
    y1: float
    x2: float
    y2: float


class DetectedObject(Wire):
    """One object."""

    name: str = Field(description="class name")
    label: int = Field(description="class id, see /labels")
    score: float = Field(description="from 0 to 1")
    box: Box


class _Objects(Wire):
    objects: list[DetectedObject]


class _About(Wire):
    image: ImageSize
    model: str
    model_version: str = Field(description="changes with the card or the weights of the model")
    box_format: BoxFormat
    timings_ms: TimingsMs
    request_id: str
    warning: str = Field(
        default="",
        exclude_if=lambda warning: not warning,
        description="Where the demo model answers because no other one is there: what it knows, and how to "
        "get another one; absent for a model that was chosen",
    )


class DetectResponse(_About, _Columns):
    """Detections of one image, sorted by score, descending; four lists of the same length, which may be 0."""


class ObjectsResponse(_About, _Objects):
    """Detections of one image as one list, sorted by score, descending: `format=objects`."""


class Problem(Wire):
    """RFC 9457 problem; clients branch on `code`."""

    type: str = Field(description="urn:rcnn-serve:problem:CODE")
    title: str
    status: int
    detail: str = Field(description="What is wrong, what is allowed, what to do")
    code: str
    request_id: str


class FrameResponse(DetectResponse):
    """A line of /detect/stream: one frame's detections."""

    frame: int = Field(description="number of the frame in the stream, from 0; skipped ones count")
    seconds: float | None = Field(
        description="time of the frame in the video or animation; null if it has none"
    )


class FailedFrame(Wire):
    """A line of /detect/stream for a frame that failed; the stream may end with it."""

    frame: int
    error: Problem


class StreamEnd(Wire):
    """The last line of /detect/stream."""

    end: Literal["complete", "max_frames", "error"] = Field(
        description="complete: all frames are read; max_frames: the limit is reached; error: frames after it "
        "are not read"
    )
    frames: int = Field(description="number of lines before this one")


class LiveResponse(DetectResponse):
    """A message of /detect/live: the detections of the latest frame."""

    frame: int = Field(description="number of the frame in the order received, from 0; dropped ones count")
    dropped: int = Field(description="number of frames so far that a newer one replaced while they waited")


class FailedItem(Wire):
    """An image of a batch that failed."""

    error: Problem


class ModelsResponse(Wire):
    """A result of each model that the request names, by the name as sent."""

    results: dict[str, DetectResponse | ObjectsResponse | FailedItem]


class BatchResponse(Wire):
    """A result for each image, in the order sent."""

    results: list[DetectResponse | ObjectsResponse | FailedItem]
