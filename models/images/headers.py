"""Reads and bounds an image's header and structure before a decoder sees the file.

A few bytes can make a decoder take gigabytes or hours: a thousand empty scans in a JPEG, a million comments,
tiles larger than the picture. This module reads only a file's structure, bounds it (far above what real
encoders write), and returns the sizes that a decoder would allocate.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from models.images import avif
from models.images.avif import HeaderError, Size

# About ten times what real files hold; the worst file of 20 MB takes a few seconds to decode.
MAX_JPEG_SEGMENTS = 2_000  # a colour profile takes up to 255, a depth map a few hundred
MAX_JPEG_SCANS = 100  # a progressive encoder writes about 10; each scan visits the whole picture
MAX_PNG_CHUNKS = 100_000  # image data in chunks of a kilobyte
MAX_PNG_METADATA = 200  # each may inflate to a megabyte
MAX_GIF_BLOCKS = 10_000  # before the first frame: comments, colour profiles
MAX_TIFF_TAGS = 1_000  # raw files and maps have about 200
MAX_TIFF_VALUES = 400_000  # in one tag: 50 million pixels in tiles of 16 x 16 have 195 313 offsets

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
)
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # no stuffing, padding or restart
_JPEG_WITH_LENGTH = frozenset(range(0xC0, 0xFF)) - {0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}
_PNG_PICTURE = frozenset({b"IDAT", b"fdAT", b"fcTL"})
_TIFF_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TIFF_BYTES = frozenset({1, 2, 6, 7})  # types whose values are bytes, which are cheap to read
_TIFF_COMPRESSION, _TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 259, 322, 323
# The others are for faxes, or rare; their decoders are old and print an error for each line to stderr.
_TIFF_COMPRESSIONS = {
    1: "none",
    5: "LZW",
    7: "JPEG",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
    50000: "Zstd",
}
_TIFF_SLACK = 65_536  # values of a small file may overlap


@dataclass(frozen=True)
class Header:
    """The format of an image, and the sizes in pixels that its decoder allocates beside the picture."""

    format: str
    sizes: tuple[Size, ...] = ()


def read_header(data: bytes) -> Header | None:
    """An image's header, None if the format is unknown. Raises HeaderError for an excessive structure."""
    name = _format_of(data)
    if name is None:
        return None
    check = _CHECKS.get(name)
    return Header(name, check(data) if check else ())


def _format_of(data: bytes) -> str | None:
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return "AVIF" if avif.is_avif(data) else None


def _check_jpeg(data: bytes) -> tuple[Size, ...]:
    """Bound segments and scans. Markers with a length are determined as libjpeg does."""
    position, segments, scans = 2, 0, 0
    while match := _JPEG_MARKER.search(data, position):
        marker, position = data[match.start() + 1], match.end()
        if marker == 0xD9 and scans:  # the end; before a scan the decoder ignores it
            break
        segments, scans = segments + 1, scans + (marker == 0xDA)
        if segments > MAX_JPEG_SEGMENTS or scans > MAX_JPEG_SCANS:
            raise HeaderError(f"more than {MAX_JPEG_SEGMENTS} segments or {MAX_JPEG_SCANS} scans")
        if marker in _JPEG_WITH_LENGTH:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return ()


def _check_png(data: bytes) -> tuple[Size, ...]:
    """Bound the chunks, and separately those that are not picture data."""
    position, chunks, metadata = 8, 0, 0
    while position + 8 <= len(data) and (kind := data[position + 4 : position + 8]) != b"IEND":
        chunks, metadata = chunks + 1, metadata + (kind not in _PNG_PICTURE)
        if chunks > MAX_PNG_CHUNKS or metadata > MAX_PNG_METADATA:
            raise HeaderError(f"more than {MAX_PNG_CHUNKS} chunks or {MAX_PNG_METADATA} of metadata")
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return ()


def _check_gif(data: bytes) -> tuple[Size, ...]:
    """Bound the blocks before the first frame."""
    _next_gif_frame(data, _after_palette(data, 10, 13))
    return ()


def check_gif_frames(data: bytes, max_frames: int) -> None:
    """Bound the blocks before each of a GIF's first `max_frames` frames. Raises HeaderError."""
    position = _after_palette(data, 10, 13)
    for _ in range(max_frames):
        position = _next_gif_frame(data, position)
        if data[position : position + 1] != b",":
            return
        position = _after_palette(data, position + 9, position + 10) + 1  # 1: the LZW code size
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1


def _after_palette(data: bytes, flags_at: int, position: int) -> int:
    """The position after the palette at `position`, if the flags say that there is one."""
    flags = data[flags_at] if len(data) > flags_at else 0
    return position + ((6 << (flags & 7)) if flags & 0x80 else 0)


def _next_gif_frame(data: bytes, position: int) -> int:
    """The position of the next frame, or of the end."""
    blocks, in_extension = 0, False
    while position < len(data) and (in_extension or data[position] not in b",;"):
        byte, blocks = data[position], blocks + 1
        if blocks > MAX_GIF_BLOCKS:
            raise HeaderError(f"more than {MAX_GIF_BLOCKS} blocks before a frame")
        if in_extension:  # byte is the length of a block; an empty one ends the extension
            position, in_extension = position + 1 + byte, byte > 0
        else:  # "!" and a label start an extension; anything else is skipped
            in_extension = byte == 0x21
            position += 2 if in_extension else 1
    return position


def _check_webp(data: bytes) -> tuple[Size, ...]:
    """The size of the canvas, which the decoder allocates twice when it opens the file."""
    kind, body = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        return ((int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1),)
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1),)
    return ((int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF),)


def _check_tiff(data: bytes) -> tuple[Size, ...]:
    """As `tiff_pages`, for the first page."""
    return next(tiff_pages(data))


def tiff_pages(data: bytes) -> Iterator[tuple[Size, ...]]:
    """Bound each page's tags and yield its tile sizes in pixels; ends at a loop. Raises HeaderError."""
    start, seen = _tiff_start(data), set[int]()
    while start not in seen:
        seen.add(start)
        yield _check_directory(data, start)
        start = _next_directory(data, start)
        if not start:
            return


def _check_directory(data: bytes, start: int) -> tuple[Size, ...]:
    """Bound the tags of a directory; the size of its tiles."""
    claimed, values = 0, {_TIFF_COMPRESSION: 1, _TIFF_TILE_WIDTH: 0, _TIFF_TILE_LENGTH: 0}
    for number, (tag, kind, count, value) in enumerate(_tiff_entries(data, start)):
        claimed += count * _TIFF_WIDTHS.get(kind, 0)
        if number >= MAX_TIFF_TAGS or (count > MAX_TIFF_VALUES and kind not in _TIFF_BYTES):
            raise HeaderError(f"more than {MAX_TIFF_TAGS} tags, or {MAX_TIFF_VALUES} numbers in one")
        if claimed > len(data) + _TIFF_SLACK:
            raise HeaderError("tags that claim more data than the file holds")
        if tag in values:
            values[tag] = value
    if values[_TIFF_COMPRESSION] not in _TIFF_COMPRESSIONS:
        allowed = ", ".join(dict.fromkeys(_TIFF_COMPRESSIONS.values()))
        raise HeaderError(f"TIFF compression {values[_TIFF_COMPRESSION]}; allowed are {allowed}")
    return ((values[_TIFF_TILE_WIDTH], values[_TIFF_TILE_LENGTH]),)


def _tiff_layout(data: bytes) -> tuple[str, str, str, str]:
    """The byte order, and struct's formats of an offset, a number of entries, an entry up to its value."""
    order = "<" if data[:1] == b"I" else ">"
    return (order, "Q", "Q", "HHQ") if 43 in data[2:4] else (order, "I", "H", "HHI")


def _tiff_start(data: bytes) -> int:
    order, offset, _, _ = _tiff_layout(data)
    return _number(data, order + offset, 8 if offset == "Q" else 4)


def _next_directory(data: bytes, start: int) -> int:
    """The position of the next directory; 0 after the last."""
    order, offset, number, entry = _tiff_layout(data)
    entries = _number(data, order + number, start)
    step = struct.calcsize("<" + entry + offset)
    return _number(data, order + offset, start + struct.calcsize("<" + number) + entries * step)


def _number(data: bytes, format: str, position: int) -> int:
    try:
        return int(struct.unpack_from(format, data, position)[0])
    except (struct.error, OverflowError) as exc:
        raise HeaderError("a directory that does not lie in the file") from exc


def _tiff_entries(data: bytes, start: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (tag, type, count, value) of a directory; the value is the first number if stored inline."""
    order, offset, number, entry = _tiff_layout(data)
    head, step = struct.calcsize("<" + entry), struct.calcsize("<" + entry + offset)
    try:
        (entries,) = struct.unpack_from(order + number, data, start)
        start += struct.calcsize("<" + number)
        for position in range(start, start + entries * step, step):
            tag, kind, count = struct.unpack_from(order + entry, data, position)
            (value,) = struct.unpack_from(order + {3: "H"}.get(kind, "I"), data, position + head)
            yield tag, kind, count, value
    except (struct.error, OverflowError) as exc:
        raise HeaderError("a directory that does not lie in the file") from exc


_CHECKS: dict[str, Callable[[bytes], tuple[Size, ...]]] = {
    "JPEG": _check_jpeg,
    "PNG": _check_png,
    "GIF": _check_gif,
    "WEBP": _check_webp,
    "TIFF": _check_tiff,
    "AVIF": avif.frame_sizes,
}
