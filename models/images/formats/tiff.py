"""TIFF: bounds each page's tags, strips and tiles, and drops tags that no picture needs.

It also bounds the tags of EXIF, which has the same form.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from models.images.formats.errors import HeaderError, Size

MAX_TAGS = 1_000  # raw files and maps have about 200
MAX_DIRECTORIES = 32  # that are looked into; a DNG has about six
MAX_ENTRIES = 65_535  # in a directory, of which the needed ones are read
MAX_VALUES = 400_000  # in one tag: 50 million pixels in tiles of 16 x 16 have 195 313 offsets
MAX_RAW_PARTS = 100_000  # strips or tiles without compression, 5 µs each; of a row each: at most 65 535

_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_BYTES = frozenset({1, 2, 6, 7})  # types whose values are bytes, which are cheap to read
_COMPRESSION, _TILE_WIDTH, _TILE_LENGTH = 259, 322, 323
_ORIENTATION, _SUBPAGES = 274, 330
_PART_OFFSETS = frozenset({273, 324})  # of strips, of tiles
_COMPRESSIONS = {  # what Pillow's libtiff decodes
    1: "none",
    **dict.fromkeys((2, 3, 4), "CCITT (fax)"),
    5: "LZW",
    **dict.fromkeys((6, 7), "JPEG"),
    **dict.fromkeys((8, 32946), "Deflate"),
    32773: "PackBits",
    **dict.fromkeys((34676, 34677), "SGI Log"),
    34925: "LZMA",
    50000: "Zstd",
}
# Sizes and samples, strips, tiles, colours, faxes, JPEG tables, YCbCr, pages, and the NoData value of GDAL.
_NEEDED = frozenset(
    {
        254,
        255,
        *range(256, 260),
        262,
        266,
        273,
        274,
        *range(277, 280),
        284,
        292,
        293,
        317,
        320,
        *range(322, 326),
    }
    | {330, 332, 338, 339, 347, *range(512, 522), *range(529, 533), 42113}
)
_SLACK = 65_536  # values of a small file may overlap
_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of whole numbers, offsets among them
_SHORT_TAG = 64  # numbers that are read of a tag


class ExcessiveTags(HeaderError):
    """More tags, or more data in them, than a reader should take."""


def cleaned(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """The file with the needed tags alone in its first page, and as `pages` for it. Raises HeaderError.

    A reader takes memory for tags that claim much, and refuses the picture for a damaged resolution.
    """
    data = _with_needed_tags(data)
    return data, next(pages(data))


def _with_needed_tags(data: bytes) -> bytes:
    """The file with a shorter first directory in place of its own; the position of the next one follows."""
    start = _start(data)
    order, offset, number, entry = _layout(data)
    head, step = struct.calcsize("<" + number), struct.calcsize("<" + entry + offset)
    entries, first = _number(data, order + number, start), start + head
    end = first + entries * step
    if end > len(data):
        raise HeaderError("a directory that does not lie in the file")
    kept = [
        data[at : at + step]
        for at in range(first, min(end, first + MAX_ENTRIES * step), step)
        if int.from_bytes(data[at : at + 2], "little" if order == "<" else "big") in _NEEDED
    ]
    if len(kept) == entries:
        return data
    behind = data[end : end + struct.calcsize("<" + offset)]
    shorter = struct.pack(order + number, len(kept)) + b"".join(kept) + behind
    return data[:start] + shorter + data[start + len(shorter) :]


def pages(data: bytes) -> Iterator[tuple[Size, ...]]:
    """Bound each page's tags and yield its tile sizes in pixels; ends at a loop. Raises HeaderError."""
    start, seen = _start(data), set[int]()
    while start not in seen:
        seen.add(start)
        yield _check_directory(data, start)
        start = _next_directory(data, start)
        if not start:
            return


def has_excessive_tags(exif: bytes) -> bool:
    """Whether the first directory of EXIF has more tags, or more data in them, than a reader should take.

    Each tag may name the same bytes: 60 000 tags of 2 MB are 120 GB to a reader.
    """
    try:
        for _ in _bounded_entries(exif, _start(exif)):
            pass
    except ExcessiveTags:
        return True
    except HeaderError:  # cut short: a reader stops there too
        return False
    return False


def _check_directory(data: bytes, start: int) -> tuple[Size, ...]:
    """Bound the tags of a directory; the size of its tiles."""
    parts, values = 0, {_COMPRESSION: 1, _TILE_WIDTH: 0, _TILE_LENGTH: 0}
    for tag, count, value in _bounded_entries(data, start):
        parts = max(parts, count) if tag in _PART_OFFSETS else parts
        if tag in values:
            values[tag] = value
    if values[_COMPRESSION] not in _COMPRESSIONS:
        allowed = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise HeaderError(f"TIFF compression {values[_COMPRESSION]}; allowed are {allowed}")
    if values[_COMPRESSION] == 1 and parts > MAX_RAW_PARTS:
        raise HeaderError(f"more than {MAX_RAW_PARTS} strips or tiles without compression")
    return ((values[_TILE_WIDTH], values[_TILE_LENGTH]),)


def _bounded_entries(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Yield (tag, count, value) of a directory. Raises HeaderError, ExcessiveTags where it is too large."""
    claimed = 0
    for number, (tag, kind, count, value) in enumerate(_entries(data, start)):
        claimed += count * _WIDTHS.get(kind, 0)
        if number >= MAX_TAGS or (count > MAX_VALUES and kind not in _BYTES):
            raise ExcessiveTags(f"more than {MAX_TAGS} tags, or {MAX_VALUES} numbers in one")
        if claimed > len(data) + _SLACK:
            raise ExcessiveTags("tags that claim more data than the file holds")
        yield tag, count, value


def _layout(data: bytes) -> tuple[str, str, str, str]:
    """The byte order, and struct's formats of an offset, a number of entries, an entry up to its value."""
    order = "<" if data[:1] == b"I" else ">"
    return (order, "Q", "Q", "HHQ") if 43 in data[2:4] else (order, "I", "H", "HHI")


def _start(data: bytes) -> int:
    order, offset, _, _ = _layout(data)
    return _number(data, order + offset, 8 if offset == "Q" else 4)


def _next_directory(data: bytes, start: int) -> int:
    """The position of the next directory; 0 after the last."""
    order, offset, number, entry = _layout(data)
    entries = _number(data, order + number, start)
    step = struct.calcsize("<" + entry + offset)
    return _number(data, order + offset, start + struct.calcsize("<" + number) + entries * step)


def _number(data: bytes, format: str, position: int) -> int:
    try:
        return int(struct.unpack_from(format, data, position)[0])
    except (struct.error, OverflowError) as exc:
        raise HeaderError("a directory that does not lie in the file") from exc


def _entries(data: bytes, start: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (tag, type, count, value) of a directory; the value is the first number if stored inline."""
    order, offset, number, entry = _layout(data)
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


def directories(data: bytes) -> Iterator[dict[int, tuple[int, int]]]:
    """The (number of values, first value or its position) of each tag, by page, and by page below a page.

    Ends where the structure is broken.
    """
    try:
        pending, seen = [_start(data)], set[int]()
        while pending and len(seen) < MAX_DIRECTORIES:
            start = pending.pop(0)
            if start and start not in seen:
                seen.add(start)
                tags = {
                    tag: (count, value) for tag, _, count, value in islice(_entries(data, start), MAX_TAGS)
                }
                yield tags
                pending += positions(data, *tags[_SUBPAGES]) if _SUBPAGES in tags else ()
                pending.append(_next_directory(data, start))
    except HeaderError:
        return


def positions(data: bytes, count: int, value: int) -> tuple[int, ...]:
    """The positions in a tag: one in the entry, several where it says. Raises HeaderError."""
    if count == 1:
        return (value,)
    order, offset, _, _ = _layout(data)
    try:
        return struct.unpack_from(f"{order}{min(count, MAX_VALUES)}{offset}", data, value)
    except (struct.error, OverflowError) as exc:
        raise HeaderError("a list that does not lie in the file") from exc


def orientation(exif: bytes) -> int:
    """The orientation in the first directory of a TIFF or of EXIF; 1 if it has none."""
    tags = next(directories(exif), {}) if exif[:2] in (b"II", b"MM") else {}
    _, value = tags.get(_ORIENTATION, (1, 1))
    return value if 1 <= value <= 8 else 1


class Page(NamedTuple):
    """A directory: the numbers of its short tags (at most 64 each, in whole numbers), and the next one."""

    start: int
    numbers: dict[int, tuple[int, ...]]
    next: int


def read_page(data: bytes, start: int | None = None) -> Page:
    """The directory at `start`, the first one without. Raises HeaderError."""
    order, offset, number, entry = _layout(data)
    start = _start(data) if start is None else start
    at, step = start + struct.calcsize("<" + number), struct.calcsize("<" + entry + offset)
    inline, numbers = struct.calcsize("<" + offset), dict[int, tuple[int, ...]]()
    for place, (tag, kind, count, _) in enumerate(islice(_entries(data, start), MAX_TAGS)):
        if kind in _WHOLE and count <= _SHORT_TAG:
            values = f"{order}{count}{_WHOLE[kind]}"
            position = at + place * step + step - inline
            if struct.calcsize(values) > inline:
                position = _number(data, order + offset, position)
            numbers[tag] = _numbers(data, values, position)
    return Page(start, numbers, _next_directory(data, start))


def _numbers(data: bytes, format: str, position: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(format, data, position)
    except (struct.error, OverflowError):
        return ()


def beginning_with(data: bytes, start: int) -> bytes:
    """The file, whose header names this directory as the first."""
    order, offset, _, _ = _layout(data)
    place = struct.pack(order + offset, start)
    at = 8 if offset == "Q" else 4
    return data[:at] + place + data[at + len(place) :]
