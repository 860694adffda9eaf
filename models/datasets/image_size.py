"""The size of an image as displayed, from a few bytes of its file: a dataset has too many to decode them all.

Read here are the headers of JPEG (with the EXIF orientation) and PNG, which nearly all datasets consist of.
Any file that is not plain, of whatever format, goes to the one decoder: the sizes are its sizes.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from models.images.decoder import Limits, decode

Size = tuple[int, int]  # width, height in pixels

MAX_PIXELS = 2**28  # larger than any photograph; beyond it an image counts as unreadable
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_WITH_ORIENTATION = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})  # without a length
_ORIENTATION = 274


def displayed_size(path: Path) -> Size:
    """The (width, height) that a viewer shows. Raises models.images.decoder.ImageError or OSError."""
    with path.open("rb") as file:
        size = _plain_size(file)
    if size and 0 < size[0] * size[1] <= MAX_PIXELS:
        return size
    image = decode(path.read_bytes(), Limits(MAX_PIXELS))
    return image.width, image.height


def _plain_size(file: BinaryIO) -> Size | None:
    """The size from the header, None where the file is not plain."""
    magic = file.read(8)
    try:
        if magic[:3] == b"\xff\xd8\xff":
            return _jpeg_size(file)
        return _png_size(file) if magic == _PNG_MAGIC else None
    except (struct.error, IndexError):  # cut short
        return None


def _jpeg_size(file: BinaryIO) -> Size | None:
    """Walk the segments up to the frame header; the first EXIF in front of it turns the picture or not."""
    file.seek(2)
    orientation: int | None = None
    while True:
        marker = _next_marker(file)
        if marker in _BARE_MARKERS:
            continue
        length = struct.unpack(">H", file.read(2))[0] - 2
        if marker in _SIZE_MARKERS:
            _, height, width = struct.unpack(">BHH", file.read(5))
            return (height, width) if (orientation or 1) >= 5 else (width, height)
        if marker == 0xE1 and length > 0:
            body = file.read(length)
            if body[:6] == b"Exif\0\0":
                if orientation is not None:
                    return None
                orientation = _orientation(body[6:])
            elif b"tiff:Orientation" in body:  # in XMP, where EXIF has none
                return None
        elif length < 0 or marker in (0xD9, 0xDA):  # the picture begins or ends, and there is no size
            return None
        else:
            file.seek(length, 1)


def _next_marker(file: BinaryIO) -> int:
    """Skip to the code of the next marker; raises IndexError at the end of the file."""
    while file.read(1)[0] != 0xFF:
        pass
    while (code := file.read(1)[0]) == 0xFF:
        pass
    return code


def _orientation(tiff: bytes) -> int:
    """The orientation tag of EXIF's first directory, 1 where there is none or it is broken."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for position in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", tiff, position)
            if tag == _ORIENTATION and count == 1 and kind in (3, 4):
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, position + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _png_size(file: BinaryIO) -> Size | None:
    """IHDR's size, unless a chunk anywhere may hold an orientation."""
    length, kind, width, height = struct.unpack(">I4sII", file.read(16))
    if kind != b"IHDR":
        return None
    file.seek(length - 8 + 4, 1)
    while len(head := file.read(8)) == 8 and (kind := head[4:]) != b"IEND":
        if kind in _PNG_WITH_ORIENTATION:
            return None
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return width, height
