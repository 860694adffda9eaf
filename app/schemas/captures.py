"""The wire types of captures."""

from typing import Any

from pydantic import Field

from app.schemas.options import Wire


class CaptureEntry(Wire):
    """One kept image."""

    id: str
    time: str = Field(description="when it was detected in, ISO 8601 in UTC")
    model: str
    model_version: str
    reason: str = Field(description="the rule of RCNN_CAPTURE_RULES that selected it")
    request_id: str
    file: str = Field(description="name of the image file")
    detections: int = Field(description="number of detected objects")
    classes: list[str] = Field(description="names of the detected classes, each once")
    coco: dict[str, Any] | None = Field(
        default=None, description="the detections as a COCO dataset; in the answer for one capture only"
    )


class CaptureBounds(Wire):
    """What is kept, and for how long."""

    rules: str
    days: float
    max_bytes: int
    bytes: int = Field(description="size of all captures")
    count: int = Field(description="number of all captures")


class CaptureList(CaptureBounds):
    """The captures of a server, the newest first."""

    captures: list[CaptureEntry]
