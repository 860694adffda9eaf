"""The size of an image as displayed, from its header where that suffices: a dataset is too large to decode.

imagesize knows the orientation in a JPEG's EXIF if it is a 16-bit number, and no other. A file that may be
rotated in another way, and every format but JPEG and PNG, goes to the decoder: all sizes are the decoder's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import imagesize

from models.images.decoder import Limits, check_header, open_picture, render
from models.images.orientation import orientation_of

Size = tuple[int, int]  # width, height in pixels

MAX_PIXELS = 2**28  # larger than any photograph; an image with more counts as unreadable
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_JPEG_EXIF, _PNG_EXIF = b"Exif\0\0", b"eXIf"
_HEAD = 2**17  # bytes in which a JPEG's EXIF lies, a segment of at most 64 KiB
_UNKNOWN = -1
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND"
_TAIL = 2**12  # bytes in which the end of the image is looked for: some programs append to it
FIRST_TURNED, LAST_ORIENTATION = 5, 8  # orientations from 5 on exchange width and height


@dataclass(frozen=True)
class ImageShape:
    """The size as displayed, and the EXIF orientation (1: as stored) that makes it from the stored pixels."""

    size: Size
    orientation: int = 1

    @property
    def stored(self) -> Size:
        """The size of the stored pixels, before the orientation is applied."""
        return self.size[::-1] if self.orientation >= FIRST_TURNED else self.size


def image_shape(path: Path) -> ImageShape:
    """The shape of an image. Raises models.images.decoder.ImageError or OSError, also for a cut-off file."""
    shape = _header_shape(path)
    if shape and 0 < shape.size[0] * shape.size[1] <= MAX_PIXELS:
        return shape
    limits = Limits(MAX_PIXELS)
    picture = open_picture(check_header(path.read_bytes(), limits), limits)
    before = orientation_of(picture)  # a TIFF's is gone when it is loaded, a PNG's may lie behind its pixels
    image = render(picture, limits)
    return ImageShape((image.width, image.height), max(before, orientation_of(picture)))


def displayed_size(path: Path) -> Size:
    """The (width, height) that a viewer shows. Raises as image_shape."""
    return image_shape(path).size


def _header_shape(path: Path) -> ImageShape | None:
    """The shape from the header of a JPEG or PNG, None where it may not be what the decoder says."""
    with path.open("rb") as file:
        magic = file.read(len(_PNG))
        if magic != _PNG and not magic.startswith(_JPEG):
            return None
        is_png = magic == _PNG
        size = imagesize.get(path)
        if _UNKNOWN in size or not _is_complete(file, _PNG_END if is_png else _JPEG_END):
            return None
        if is_png:
            return None if _png_rotates(file) else ImageShape(size)
        orientation = _jpeg_orientation(file)
        return ImageShape(size, orientation) if orientation else None


def _is_complete(file: BinaryIO, mark: bytes) -> bool:
    """Whether the file ends with the mark of its format: one that was cut off is left to the decoder."""
    end = file.seek(0, 2)
    file.seek(max(0, end - _TAIL))
    return mark in file.read()


def _jpeg_orientation(file: BinaryIO) -> int | None:
    """The orientation in EXIF, 1 without; None if imagesize does not read the one that may be there."""
    file.seek(0)
    found: int = imagesize.get_info(file, dpi=False, colors=False, channels=False).rotation
    if found != _UNKNOWN:
        return found if 1 <= found <= LAST_ORIENTATION else 1
    return None if _jpeg_rotates(file) else 1


def _jpeg_rotates(file: BinaryIO) -> bool:
    """Whether a JPEG has EXIF that may rotate it."""
    file.seek(0)
    return _JPEG_EXIF in file.read(_HEAD)


def _png_rotates(file: BinaryIO) -> bool:
    """Whether a PNG has a chunk that may hold an orientation."""
    file.seek(len(_PNG))
    while len(chunk := file.read(8)) == 8 and (kind := chunk[4:]) != b"IEND":
        if kind == _PNG_EXIF:
            return True
        file.seek(int.from_bytes(chunk[:4]) + 4, 1)
    return False
