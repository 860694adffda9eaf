"""The container of AVIF and HEIF (ISO/IEC 14496-12 and 23008-12): boxes, items, and where their data lies."""

from collections.abc import Iterator
from typing import NamedTuple

from models.images.formats.errors import HeaderError

MAX_BOXES = 50_000  # in a file, 2 µs each
MAX_ITEMS = 10_000  # and their extents: two for each of 64 x 64 cells; the decoder finds an item by a search
MAX_SAMPLES = 100_000  # of a track: an hour of frames
MAX_LINKS = 131_072  # bytes of each table of links between items: 30 for each of 64 x 64 cells
_CONTAINERS = {  # boxes of boxes, and the bytes in front of the first
    **dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"iprp", b"ipco", b"grpl"), 0),
    **dict.fromkeys((b"meta", b"iref"), 4),
    b"iinf": 6,
}
_LINKS = (b"iref", b"ipma")
_METADATA = (b"Exif", b"mime")  # items of EXIF, and of XMP
Kinds = dict[int, tuple[bytes, int]]  # by an item's id: its type, and the type's position in the file


class CutShort(HeaderError):
    """A container whose boxes do not lie in it."""


class Box(NamedTuple):
    """A box of the container: its type, and the start and end of its body in the file."""

    kind: bytes
    start: int
    end: int


class Reader:
    """A cursor over big-endian numbers. Raises HeaderError past the end."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self.position, self._end = data, start, end

    def take(self, width: int) -> int:
        start, self.position = self.position, self.position + width
        if self.position > self._end:
            raise CutShort("a container that is cut short")
        return int.from_bytes(self._data[start : self.position], "big")


class Bits:
    """A cursor over bits, most significant first; zeros follow the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, width: int) -> int:
        self._left -= width
        value = self._value >> self._left if self._left >= 0 else 0
        return value & ((1 << width) - 1)

    def exp_golomb(self) -> int:
        """A number of a variable length, ue(v) in H.265 and uvlc() in AV1: at most 32 zeros in front."""
        zeros = 0
        while zeros < 32 and not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros) if zeros < 32 else 2**32 - 1


def brands(data: bytes) -> frozenset[bytes]:
    """The brands of a file, empty if it has none: what its container may hold."""
    if data[4:8] != b"ftyp":
        return frozenset()
    listed = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    return frozenset(listed[at : at + 4] for at in range(0, len(listed), 4) if at != 4)  # 4: a version


def without_metadata(data: bytes, kinds: Kinds) -> bytes:
    """The file with EXIF and XMP hidden: broken ones fail a decoder, and the container orients the image."""
    positions = [position for kind, position in kinds.values() if kind in _METADATA]
    if not positions:
        return data
    hidden = bytearray(data)
    for position in positions:
        hidden[position : position + 4] = b"free"
    return bytes(hidden)


def check_boxes(data: bytes) -> None:
    """Bound the boxes at every depth, and the tables of links between items."""
    pending, count = [(0, len(data))], 0
    while pending:
        try:
            for box in boxes(data, *pending.pop()):
                count += 1
                if count > MAX_BOXES or (box.kind in _LINKS and box.end - box.start > MAX_LINKS):
                    raise HeaderError(f"more than {MAX_BOXES} boxes, or {MAX_LINKS} bytes of links")
                if box.kind in _CONTAINERS:
                    pending.append((box.start + _head_bytes(data, box), box.end))
        except CutShort:  # a decoder stops there too, or never looks
            continue


def _head_bytes(data: bytes, box: Box) -> int:
    """Bytes of a container in front of its first box."""
    wide_count = box.kind == b"iinf" and data[box.start : box.start + 1] > b"\0"
    return _CONTAINERS[box.kind] + 2 * wide_count


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes that follow one another from `start` to `end`. Raises CutShort."""
    while start + 8 <= end:
        reader = Reader(data, start, end)
        size, kind = reader.take(4), reader.take(4).to_bytes(4, "big")
        size = reader.take(8) if size == 1 else size or end - start
        if size < reader.position - start or start + size > end:
            raise CutShort("a container that is cut short")
        yield Box(kind, reader.position, start + size)
        start += size


def whole_boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """As `boxes`, up to one that is cut short."""
    try:
        yield from boxes(data, start, end)
    except CutShort:
        return


def nested(data: bytes, box: Box, *path: bytes) -> Iterator[Box]:
    """The boxes below a box along a path of types, as (b"mdia", b"minf"); ends where one is cut short."""
    for child in whole_boxes(data, box.start + _head_bytes(data, box), box.end):
        if child.kind == path[0]:
            yield from (nested(data, child, *path[1:]) if path[1:] else (child,))


def item_boxes(data: bytes, required: bool = True) -> dict[bytes, Box]:
    """The boxes of the file's description, by type; a sequence needs none."""
    for box in boxes(data, 0, len(data)):
        if box.kind == b"meta":
            return {child.kind: child for child in boxes(data, box.start + 4, box.end)}
    if required:
        raise HeaderError("no description of its items")
    return {}


def item_kinds(data: bytes, meta: dict[bytes, Box]) -> Kinds:
    """The type of each item by its id, with the type's position in the file."""
    kinds: Kinds = {}
    if b"iinf" not in meta:
        return kinds
    _, start, end = meta[b"iinf"]
    for box in boxes(data, start + (8 if data[start : start + 1] > b"\0" else 6), end):
        version = data[box.start] if box.start < box.end else 0
        if box.kind == b"infe" and version >= 2:
            reader = Reader(data, box.start + 4, box.end)
            item = reader.take(2 if version == 2 else 4)
            reader.take(2)  # protection
            kinds[item] = reader.take(4).to_bytes(4, "big"), reader.position - 4
        if len(kinds) > MAX_ITEMS:
            raise HeaderError(f"more than {MAX_ITEMS} items")
    return kinds


def extents(data: bytes, meta: dict[bytes, Box]) -> Iterator[tuple[int, int, int]]:
    """Yield (item id, start, end in the file) of every extent of every item."""
    if b"iloc" not in meta:
        return
    reader = Reader(data, meta[b"iloc"].start, meta[b"iloc"].end)
    version = reader.take(4) >> 24
    widths = reader.take(2)
    offset_width, length_width, base_width, index_width = (widths >> shift & 15 for shift in (12, 8, 4, 0))
    items = reader.take(2 if version < 2 else 4)
    if items > MAX_ITEMS:
        raise HeaderError(f"more than {MAX_ITEMS} items")
    for _ in range(items):
        item = reader.take(2 if version < 2 else 4)
        in_idat = bool(version and reader.take(2) & 15)
        reader.take(2)  # data reference
        base = reader.take(base_width) + (meta[b"idat"].start if in_idat and b"idat" in meta else 0)
        for _ in range(reader.take(2)):
            reader.take(index_width if version else 0)
            start = base + reader.take(offset_width)
            length = reader.take(length_width)
            yield item, start, start + length if length else len(data)


def contents(data: bytes, meta: dict[bytes, Box], kinds: Kinds, wanted: frozenset[bytes]) -> dict[int, bytes]:
    """The data of each item of the wanted types, by its id. Raises HeaderError."""
    pieces: dict[int, list[memoryview]] = {}
    for count, (item, start, end) in enumerate(extents(data, meta)):
        if count > MAX_ITEMS:
            raise HeaderError(f"items in more than {MAX_ITEMS} extents")
        if kinds.get(item, (b"", 0))[0] in wanted:
            pieces.setdefault(item, []).append(memoryview(data)[start:end])
    if sum(len(piece) for item in pieces.values() for piece in item) > 2 * len(data):
        raise HeaderError("items that overlap")
    return {item: b"".join(parts) for item, parts in pieces.items()}


def first_samples(data: bytes) -> Iterator[bytes]:
    """The first sample of each track of a sequence. Raises HeaderError."""
    for track in nested(data, Box(b"moov", 0, len(data)), b"moov", b"trak"):
        tables = {box.kind: box for box in nested_all(data, track, b"mdia", b"minf", b"stbl")}
        if b"stsz" in tables:
            reader = Reader(data, tables[b"stsz"].start + 4, tables[b"stsz"].end)
            size, count = reader.take(4), reader.take(4)
            if count > MAX_SAMPLES:
                raise HeaderError(f"more than {MAX_SAMPLES} frames")
            size = size or (reader.take(4) if count else 0)
            for kind, width in ((b"stco", 4), (b"co64", 8)):
                if kind in tables and size:
                    start = Reader(data, tables[kind].start + 8, tables[kind].end).take(width)
                    yield data[start : start + size]


def nested_all(data: bytes, box: Box, *path: bytes) -> Iterator[Box]:
    """All boxes in the boxes at the end of a path of types."""
    for parent in nested(data, box, *path):
        yield from boxes(data, parent.start, parent.end)
