"""Camera RAW: finds the JPEG that the camera has put beside the sensor's data.

Every maker has a structure of its own (CR2, CR3, NEF, ARW, ORF, RW2, RAF, PEF, DNG …), but each puts one or
more JPEGs into the file, of which the largest shows the whole picture as the camera developed it. It is found
by the bytes that every JPEG begins with. Its orientation is that of the RAW, unless it states its own.
"""

import re
import struct
from collections.abc import Iterator
from itertools import islice

from models.images.formats import isobmff
from models.images.formats.errors import HeaderError, Size
from models.images.formats.tiff import directories, orientation, positions

MIN_SIDE = 640  # px of the long side: a smaller picture is a thumbnail; older cameras have 1 024 and more
MAX_JPEGS = 1_000  # that are looked at; a file has two to four, and a few more by chance
MAX_SEGMENTS = 200  # in front of a JPEG's size; a camera writes about ten
_START = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]")
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # not the lossless one, in which some cameras put the sensor's data
_MAGIC = (
    *(b"IIRO", b"IIRS", b"MMOR"),  # Olympus
    *(b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM"),  # Panasonic and Leica, Fujifilm, Sigma, Minolta
)
_TIFF = (b"II*\0", b"MM\0*")
_CANON, _CANON_CR3, _OLD_CANON = b"CR", b"crx ", b"HEAPCCDR"
_PHOTOMETRIC, _COMPRESSION, _OFFSETS = 262, 259, (273, 324)
_SENSOR = frozenset({32803, 34892})  # colours as the sensor or the DNG converter has them
_OF_MAKERS = frozenset(
    {32767, 32769, 32770, 34713, 34892, 65000, 65535}
)  # compressions: Sony, Nikon, Pentax …


def is_raw(data: bytes) -> bool:
    """Whether a file holds a sensor's data."""
    if data.startswith(_MAGIC) or data[6:14] == _OLD_CANON or _CANON_CR3 in isobmff.brands(data):
        return True
    if not data.startswith(_TIFF):
        return False
    return data[8:10] == _CANON or any(_is_of_sensor(tags) for tags in directories(data))


def preview(data: bytes) -> bytes:
    """The largest JPEG in the file, upright as the camera says. Raises HeaderError."""
    sensor = _sensor_positions(data)
    found = [(size, start) for start, size in _jpegs(data) if max(size) >= MIN_SIDE and start not in sensor]
    if not found:
        raise HeaderError(
            "a camera's raw data and no preview of it; convert it to JPEG with the camera's program"
        )
    _, start = max(found, key=lambda each: each[0][0] * each[0][1])
    jpeg = data[start:]
    turned = _orientation(data)
    if turned == 1 or b"Exif\0\0" in jpeg[: 64 * 1024]:
        return jpeg
    tag = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, turned, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag + jpeg[2:]


def _orientation(data: bytes) -> int:
    """The orientation in the RAW's first directory; a CR3 has it in a box."""
    if _CANON_CR3 in isobmff.brands(data):
        at = data.find(b"CMT1", 0, 64 * 1024)
        return orientation(data[at + 4 : at + 4 + 4096]) if at >= 0 else 1
    return orientation(data)


def _sensor_positions(data: bytes) -> frozenset[int]:
    """Where a TIFF's directories say that the sensor's data lies, which may be in JPEGs too."""
    found = set[int]()
    for tags in directories(data) if data.startswith(_TIFF) else ():
        if _is_of_sensor(tags):
            found.update(at for tag in _OFFSETS if tag in tags for at in positions(data, *tags[tag]))
    return frozenset(found)


def _is_of_sensor(tags: dict[int, tuple[int, int]]) -> bool:
    return tags.get(_PHOTOMETRIC, (0, 0))[1] in _SENSOR or tags.get(_COMPRESSION, (0, 0))[1] in _OF_MAKERS


def _jpegs(data: bytes) -> Iterator[tuple[int, Size]]:
    """Where a JPEG begins, and its size."""
    for match in islice(_START.finditer(data), MAX_JPEGS):
        if (size := _size(data, match.start() + 2)) is not None:
            yield match.start(), size


def _size(data: bytes, position: int) -> Size | None:
    """The size of the JPEG whose segments begin here; None if it is none that a picture is in."""
    for _ in range(MAX_SEGMENTS):
        if data[position : position + 1] != b"\xff" or position + 9 > len(data):
            return None
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return (width, height) if data[position + 4] == 8 and width and height else None
        if not 0xC0 < marker < 0xFF or (0xC3 <= marker <= 0xCF and marker != 0xC4) or length < 2:
            return None
        position += 2 + length
    return None
