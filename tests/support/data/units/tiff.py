"""Units of TIFF."""

import struct

from tests.support.data.image_files import grey_tiff
from tests.support.data.units.common import Make


def _strips(size: int) -> bytes:
    """As many strips of a row of a pixel as a tag may have numbers."""
    rows = min(400_000, size // 8, 65_535)
    return grey_tiff(1, rows, 8, bytes(rows), {278: (4, [1]), 273: (4, [8] * rows), 279: (4, [1] * rows)})


def _tiles(size: int) -> bytes:
    count = min(400_000, size // 8)
    side = 16 * int(count**0.5)
    count = (side // 16) ** 2
    tags = {322: (4, [16]), 323: (4, [16]), 324: (4, [8] * count), 325: (4, [256] * count)}
    return grey_tiff(side, side, 8, bytes(256), {**tags, 273: (4, []), 279: (4, [])})


def _packed_strips(size: int) -> bytes:
    rows = min(400_000, size // 8, 65_535)
    packed = {259: (3, [32773]), 278: (4, [1]), 273: (4, [8] * rows), 279: (4, [2] * rows)}
    return grey_tiff(1, rows, 8, b"\0\0" * rows, packed)


def _many_tags(kind: int, numbers: int) -> Make:
    def make(size: int) -> bytes:
        width = 4 * numbers
        tags = {tag: (kind, [7] * numbers) for tag in range(400, 400 + min(900, size // width))}
        return grey_tiff(9, 9, 8, bytes(81), {**tags, 282: (4, [7] * numbers)})

    return make


def _pages(size: int) -> bytes:
    """A chain of empty directories behind a first page of no pixels."""
    count = size // 6
    head = b"II*\0" + struct.pack("<I", 8)
    return head + b"".join(struct.pack("<HI", 0, 8 + 6 * (number + 1)) for number in range(count)) + bytes(6)


TIFF_UNITS: dict[str, Make] = {
    "strip": _strips,
    "packed strip": _packed_strips,
    "tile": _tiles,
    "tag": _many_tags(4, 5000),
    "number": _many_tags(4, 400_000),
    "page": _pages,
    "xmp": lambda size: grey_tiff(9, 9, 8, bytes(81), {700: (4, [7] * 400_000)}),
}
