"""EXIF orientation: from stored pixels to what a viewer shows."""

import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import ExifTags
from PIL.ImageFile import ImageFile

from models.images.formats.tiff import has_excessive_tags

Stored = npt.NDArray[np.uint8]  # (rows, columns, 3)

# What Pillow raises on damaged data, found by fuzzing valid files.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, AssertionError, LookupError, ArithmeticError),
    *(RuntimeError, EOFError, struct.error, zlib.error),
)


_EXIF = b"Exif\0\0"
_RAW_PROFILE = "Raw profile type exif"  # a PNG's text with EXIF in hexadecimal, behind three lines


def orientation_of(picture: ImageFile) -> int:
    """The EXIF orientation, 1 if missing or broken. Pillow applies a TIFF's own while loading it."""
    try:
        if has_excessive_tags(_exif(picture).removeprefix(_EXIF)):
            return 1
        value = picture.getexif().get(ExifTags.Base.Orientation)
    except DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _exif(picture: ImageFile) -> bytes:
    """The EXIF that Pillow would read, empty if there is none."""
    exif = picture.info.get("exif")
    if exif is None and (text := picture.info.get(_RAW_PROFILE)):
        exif = bytes.fromhex("".join(text.split("\n")[3:]))
    return exif or b""


def oriented(width: int, height: int, orientation: int) -> tuple[Stored, Stored]:
    """An empty array for the upright pixels, and a view of the same memory in stored order."""
    shown = np.empty((width, height, 3) if orientation >= 5 else (height, width, 3), np.uint8)
    stored = shown.transpose(1, 0, 2) if orientation >= 5 else shown
    rows, columns = flips(orientation)
    return shown, stored[::rows, ::columns]


def flips(orientation: int) -> tuple[int, int]:
    """For rows and columns: -1 if the orientation reverses their stored order, else 1."""
    return -1 if orientation in (3, 4, 6, 7) else 1, -1 if orientation in (2, 3, 7, 8) else 1
