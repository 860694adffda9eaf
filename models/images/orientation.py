"""EXIF orientation: how stored pixels turn into what a viewer shows."""

import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import ExifTags
from PIL.ImageFile import ImageFile

Stored = npt.NDArray[np.uint8]  # (rows, columns, 3)

# What Pillow raises on damaged data, found by changing the bytes of valid files at random.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, AssertionError, LookupError, ArithmeticError),
    *(RuntimeError, EOFError, struct.error, zlib.error),
)


def orientation_of(picture: ImageFile) -> int:
    """The EXIF orientation, 1 where it is missing or broken. A TIFF has its own applied while it loads."""
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation)
    except DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def oriented(width: int, height: int, orientation: int) -> tuple[Stored, Stored]:
    """Room for the pixels as shown, and a view of the same memory in the order in which they are stored."""
    shown = np.empty((width, height, 3) if orientation >= 5 else (height, width, 3), np.uint8)
    stored = shown.transpose(1, 0, 2) if orientation >= 5 else shown
    rows, columns = flips(orientation)
    return shown, stored[::rows, ::columns]


def flips(orientation: int) -> tuple[int, int]:
    """-1 where the orientation turns the stored rows, and the stored columns, the other way round; else 1."""
    return -1 if orientation in (3, 4, 6, 7) else 1, -1 if orientation in (2, 3, 7, 8) else 1
