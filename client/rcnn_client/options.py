"""Options of a detection: written by `make options` from app.schemas.options, not by hand."""

from collections.abc import Sequence
from typing import TypedDict


class Options(TypedDict, total=False):
    """Options of one detection; one left out, or None, is decided by the service."""

    score_threshold: float | None
    """Minimum confidence: a number from 0 to 1."""
    nms_threshold: float | None
    """IoU above which NMS drops the lower-scoring of two boxes: a number from 0 to 1."""
    max_detections: int | None
    """Maximum number of detections: a whole number from 1 to 1000."""
    classes: Sequence[str | int] | None
    """Keep only these classes: names or ids of /labels, repeated or separated by commas; a name with a comma
    alone, or in double quotes."""
    class_agnostic: bool | None
    """Apply NMS across classes instead of within each class: true or false."""
    min_area: float | None
    """Minimum box area in square pixels of the image: a number from 0."""
    roi: Sequence[str] | None
    """Keep only boxes whose centre is in this region: x1,y1,x2,y2 of two corners, or x,y of three and more
    points; repeated for several regions. In pixels, or in fractions with `normalized`."""
    size: int | None
    """Input size (short side) in pixels: a whole number from 64 to 8192."""
    timeout_ms: int | None
    """Deadline in milliseconds: a whole number from 1 to the server's limit."""
    priority: int | None
    """Scheduling priority: a whole number from 0 (lowest) to 2 (highest); the default is 1."""
    tile: str | int | None
    """Detect small objects of a large image in tiles of this side in pixels: a whole number from 64 to 8192,
    or auto, which uses tiles only where the network would see the image at less than half its size. Each tile
    costs as much as an image."""
    tile_overlap: float | None
    """Minimum overlap of neighbouring tiles as a fraction of their side: a number from 0 to 0.5. Objects that
    are larger than the overlap may be cut."""
    flip: bool | None
    """Detect in the mirror image too, and merge both, at the cost of two images: true or false. With `tile`,
    in that of each tile too."""
    model: str | None
    """Name of the model, as in /models, or an alias of the server; if not given, the server's default
    model."""
