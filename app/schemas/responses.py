"""What routes answer, as pydantic types: detections, frames, problems."""

from typing import Literal

from pydantic import Field

from app.schemas.options import BoxFormat, Wire


class ImageSize(Wire):
    """Size in pixels of the image as displayed (EXIF orientation applied)."""

    width: int
    height: int


class TimingsMs(Wire):
    """Where the time of one image went, in milliseconds; inference and postprocess are those of its batch."""

    decode: float = Field(description="decoding, resizing and padding")
    queue: float = Field(description="waiting for the device")
    inference: float = Field(description="the network, for the batch this image was in")
    postprocess: float = Field(description="score floor, NMS and top-k, for the batch this image was in")
    total: float = Field(description="from the request's arrival to its answer")


class DetectResponse(Wire):
    """Detections of one image, sorted by score, descending; four lists of the same length, which may be 0."""

    boxes: list[list[float]] = Field(description="(N, 4) in `box_format`; pixels, or fractions if normalized")
    labels: list[int] = Field(description="(N) class ids, see /labels")
    scores: list[float] = Field(description="(N) from 0 to 1")
    names: list[str] = Field(description="(N) class names")
    image: ImageSize
    model: str
    model_version: str = Field(description="changes with the model's card or weights")
    box_format: BoxFormat
    timings_ms: TimingsMs
    request_id: str


class Problem(Wire):
    """RFC 9457 problem; `code` is the word to branch on."""

    type: str = Field(description="urn:rcnn-serve:problem:CODE")
    title: str
    status: int
    detail: str = Field(description="What was wrong, what is allowed, what to do")
    code: str
    request_id: str


class FrameResponse(DetectResponse):
    """A line of /detect/stream: one frame's detections."""

    frame: int = Field(description="number of the frame in the stream, from 0; skipped ones count")
    seconds: float | None = Field(description="its time in the video or animation; null where it has none")


class FailedFrame(Wire):
    """A line of /detect/stream for a frame that failed alone, or with which the stream ends."""

    frame: int
    error: Problem


class StreamEnd(Wire):
    """The last line of /detect/stream."""

    end: Literal["complete", "max_frames", "error"] = Field(
        description="everything was read; more frames follow than may; the frames after an error are not read"
    )
    frames: int = Field(description="lines before this one")


class LiveResponse(DetectResponse):
    """A message of /detect/live: the newest frame's detections."""

    frame: int = Field(description="number of the frame in the order received, from 0; dropped ones count")
    dropped: int = Field(description="frames dropped so far, because a newer one came while they waited")


class FailedItem(Wire):
    """An image of a batch that failed alone."""

    error: Problem


class BatchResponse(Wire):
    """One result an image, in the order they were sent."""

    results: list[DetectResponse | FailedItem]
