"""Options of a detection: written by `make options` from app.schemas.options, not by hand."""

from collections.abc import Sequence
from typing import TypedDict


class Options(TypedDict, total=False):
    """Options of one detection; one left out, or None, is decided by the service."""

    score_threshold: float | None
    """Leave out detections below this score: a number from 0 to 1."""
    nms_threshold: float | None
    """Of two boxes that overlap by more than this IoU, keep the better: a number from 0 to 1."""
    max_detections: int | None
    """At most this many detections: a whole number from 1 to 1000."""
    classes: Sequence[str | int] | None
    """Only these classes: names or ids out of /labels, repeated or separated by commas."""
    class_agnostic: bool | None
    """Let boxes of different classes suppress one another: true or false."""
    size: int | None
    """Short side in pixels that the image is resized to: a whole number from 64 to 1333."""
    timeout_ms: int | None
    """Give up after so many milliseconds: a whole number from 1 to the server's own limit."""
    priority: int | None
    """Who goes first and is refused last: a whole number from 0 to 2, the highest; else 1."""
    tile: str | int | None
    """Cut a large image into tiles of so many of its pixels a side, for small objects: a whole number from 64
    to 8192, or auto, which cuts where the network would see the image at less than half its size. Each tile
    costs what an image costs."""
    tile_overlap: float | None
    """Least overlap of neighbouring tiles as a share of their side: a number from 0 to 0.5. What is larger
    may be cut by both."""
