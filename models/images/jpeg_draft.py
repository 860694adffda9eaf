"""Drafts: a JPEG much larger than its canvas is decoded at a half, a quarter or an eighth of its size.

libjpeg leaves out the frequencies that such a size does not show, and with them most of the work.
"""

from dataclasses import dataclass

from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from models.images.avif import Size
from models.images.orientation import flips

CanvasLimits = tuple[int, int]  # most px of a canvas' short and long side

SCALES = (8, 4, 2)  # what libjpeg scales by while it decodes, at a fraction of the work
DRAFT_MARGIN = 2.0  # a draft is at least so many times its canvas; see bench/draft.py for what it does to AP


@dataclass(frozen=True)
class Draft:
    """How a draft's pixels lie on the image of (height, width) px: each is `scale` x `scale` of its pixels.

    The first begins at (top, left), which is negative where the image does not fill its first row or column.
    """

    height: int
    width: int
    scale: int
    top: int
    left: int


def begin_draft(picture: ImageFile, canvas_limits: CanvasLimits) -> int:
    """Have a JPEG much larger than its canvas decoded smaller; by how much: 1 where it is not."""
    reduction = max(side / most for side, most in zip(sorted(picture.size), canvas_limits, strict=True))
    wanted = next((scale for scale in SCALES if scale * DRAFT_MARGIN <= reduction), 1)
    if wanted == 1 or not isinstance(picture, JpegImageFile):
        return 1
    width, height = picture.size
    # Pillow takes the size as a lower bound, so a side shorter than the scale may make the scale smaller.
    begun = picture.draft(None, (max(1, width // wanted), max(1, height // wanted)))
    return round(width / begun[1][2]) if begun else 1


def draft_of(size: Size, drafted: Size, scale: int, orientation: int) -> Draft | None:
    """Where the draft's pixels lie once the image is upright; `size` and `drafted` (width, height) as stored.

    The last pixels reach over the edge where the scale does not divide the side; a flip makes them the first.
    """
    if scale == 1:
        return None
    over = (size[1] - scale * drafted[1], size[0] - scale * drafted[0])
    top, left = (least if flip < 0 else 0 for least, flip in zip(over, flips(orientation), strict=True))
    if orientation >= 5:
        return Draft(size[0], size[1], scale, left, top)
    return Draft(size[1], size[0], scale, top, left)
