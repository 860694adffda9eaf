"""The size of an image as displayed, from its header where that suffices: a dataset is too large to decode.

imagesize knows the orientation in a JPEG's EXIF if it is a 16-bit number, and no other. A file that may be
rotated in another way, and every format but JPEG and PNG, goes to the decoder: all sizes are the decoder's.
"""

from pathlib import Path
from typing import BinaryIO

import imagesize

from models.images.decoder import Limits, decode

Size = tuple[int, int]  # width, height in pixels

MAX_PIXELS = 2**28  # larger than any photograph; an image with more counts as unreadable
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_JPEG_ORIENTATION = (b"Exif\0\0", b"tiff:Orientation")  # the second in XMP
_PNG_ORIENTATION = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})  # chunks, anywhere in the file
_HEAD = 2**17  # bytes in which a JPEG's EXIF and XMP lie: a segment of at most 64 KiB each
_UNKNOWN = -1


def displayed_size(path: Path) -> Size:
    """The (width, height) that a viewer shows. Raises models.images.decoder.ImageError or OSError."""
    size = _header_size(path)
    if size and 0 < size[0] * size[1] <= MAX_PIXELS:
        return size
    image = decode(path.read_bytes(), Limits(MAX_PIXELS))
    return image.width, image.height


def _header_size(path: Path) -> Size | None:
    """The size from the header of a JPEG or PNG, None where it may not be the displayed one."""
    with path.open("rb") as file:
        magic = file.read(len(_PNG))
        if magic != _PNG and not magic.startswith(_JPEG):
            return None
        size = imagesize.get(path)
        if _UNKNOWN in size:
            return None
        rotates = _png_rotates(file) if magic == _PNG else _jpeg_rotates(file)
        return None if rotates else size


def _jpeg_rotates(file: BinaryIO) -> bool:
    """Whether a JPEG has EXIF or XMP that may rotate it and that imagesize does not read."""
    file.seek(0)
    if imagesize.get_info(file, dpi=False, colors=False, channels=False).rotation != _UNKNOWN:
        return False
    file.seek(0)
    head = file.read(_HEAD)
    return any(mark in head for mark in _JPEG_ORIENTATION)


def _png_rotates(file: BinaryIO) -> bool:
    """Whether a PNG has a chunk that may hold an orientation."""
    while len(chunk := file.read(8)) == 8 and (kind := chunk[4:]) != b"IEND":
        if kind in _PNG_ORIENTATION:
            return True
        file.seek(int.from_bytes(chunk[:4]) + 4, 1)
    return False
