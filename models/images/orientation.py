"""EXIF orientation: from stored pixels to what a viewer shows."""

import struct
import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import ExifTags
from PIL import Image as pillow
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from models.images.formats.tiff import has_excessive_tags

Stored = npt.NDArray[np.uint8]  # (rows, columns, 3)

# What Pillow raises on damaged data, found by fuzzing valid files.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, AssertionError, LookupError, ArithmeticError),
    *(RuntimeError, EOFError, struct.error, zlib.error),
)

_EXIF = b"Exif\0\0"
_XMP = ("xmp", "XML:com.adobe.xmp")  # Pillow's names of it


def orientation_of(picture: ImageFile) -> int:
    """The EXIF orientation, 1 if missing or broken. Pillow applies a TIFF's own while loading it.

    EXIF alone: no viewer turns a picture by its XMP, as Pillow's getexif() does.
    """
    try:
        value = _tags(picture).get(ExifTags.Base.Orientation)
    except DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _tags(picture: ImageFile) -> Mapping[int, object]:
    """The tags of a TIFF's page, or of the EXIF in a file of another format; none if they are excessive."""
    if isinstance(picture, TiffImageFile):
        return picture.tag_v2
    content, exif = (picture.info.get("exif") or b"").removeprefix(_EXIF), pillow.Exif()
    if not has_excessive_tags(content):
        exif.load(content)
    return exif


def forget_xmp(picture: ImageFile) -> None:
    """Leave EXIF alone to orient the picture, also where Pillow does so while it loads a TIFF."""
    for name in _XMP:
        picture.info.pop(name, None)


def oriented(width: int, height: int, orientation: int) -> tuple[Stored, Stored]:
    """An empty array for the upright pixels, and a view of the same memory in stored order."""
    shown = np.empty((width, height, 3) if orientation >= 5 else (height, width, 3), np.uint8)
    stored = shown.transpose(1, 0, 2) if orientation >= 5 else shown
    rows, columns = flips(orientation)
    return shown, stored[::rows, ::columns]


def flips(orientation: int) -> tuple[int, int]:
    """For rows and columns: -1 if the orientation reverses their stored order, else 1."""
    return -1 if orientation in (3, 4, 6, 7) else 1, -1 if orientation in (2, 3, 7, 8) else 1
