"""Drafts: a JPEG much larger than its canvas is decoded at a half, a quarter or an eighth of its size.

libjpeg skips the frequencies that such a size does not show, and so most of the work.
"""

from dataclasses import dataclass

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from models.images.formats.errors import Size
from models.images.orientation import flips

CanvasLimits = tuple[int, int]  # maximum px of a canvas' short and long side

SCALES = (8, 4, 2)  # by which libjpeg can scale down while decoding
DRAFT_MARGIN = 2.0  # a draft is at least so many times its canvas; bench/draft.py measures the effect on AP


@dataclass(frozen=True)
class Draft:
    """How a draft's pixels map to the image of (height, width) px: each covers `scale` x `scale` image px.

    The first begins at (top, left), which is negative if the image does not fill the first row or column.
    """

    height: int
    width: int
    scale: int
    top: int
    left: int


def begin_draft(picture: ImageFile, canvas_limits: CanvasLimits) -> int:
    """Set up a JPEG much larger than its canvas to be decoded smaller; the scale, 1 for full size."""
    reduction = max(side / limit for side, limit in zip(sorted(picture.size), canvas_limits, strict=True))
    scale = next((scale for scale in SCALES if scale * DRAFT_MARGIN <= reduction), 1)
    if scale == 1 or not isinstance(picture, JpegImageFile):
        return 1
    width, height = picture.size
    # Pillow treats the size as a lower bound, so a side shorter than the scale may make the scale smaller.
    drafted = picture.draft(None, (max(1, width // scale), max(1, height // scale)))
    return round(width / drafted[1][2]) if drafted else 1


def draft_of(size: Size, drafted: Size, scale: int, orientation: int) -> Draft | None:
    """The draft's geometry on the upright image; `size` and `drafted` are (width, height) as stored.

    If the scale does not divide a side, the last pixels extend over the edge; a flip makes them the first.
    """
    if scale == 1:
        return None
    excess = (size[1] - scale * drafted[1], size[0] - scale * drafted[0])
    top, left = (start if flip < 0 else 0 for start, flip in zip(excess, flips(orientation), strict=True))
    if orientation >= 5:
        return Draft(size[0], size[1], scale, left, top)
    return Draft(size[1], size[0], scale, top, left)
