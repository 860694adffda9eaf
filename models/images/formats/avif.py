"""Reads the real frame sizes of an AVIF file from its AV1 data.

An AVIF file states its size in the container, and again in the AV1 data of every item. If they disagree, a
decoder decodes the AV1 size and scales afterwards: a file of two kilobytes that claims 64 x 64 pixels can
take a gigabyte. This module walks the container (ISO/IEC 14496-12, ISO/IEC 23008-12) to its AV1 items and
reads the sequence header of each (AV1 specification, 5.5). A frame may override its size within the field
widths of that header; only the decoding library's own limit, 2^28 pixels, bounds that.
"""

from collections.abc import Iterator
from typing import NamedTuple

from models.images.formats.errors import HeaderError, Size

MAX_UNITS = 50_000  # AV1 units (OBUs) in a file: a grid of 64 x 64 cells has about four per cell
MAX_FRAMES = 8  # AV1 frames in an item: a still image has one, a layered one four; each may fill the picture
MAX_BOXES = 50_000  # in a file, 2 µs each
MAX_ITEMS = 10_000  # and their extents: two for each of 64 x 64 cells; the decoder finds an item by a search
MAX_LINKS = 131_072  # bytes of each table of links between items: 30 for each of 64 x 64 cells
_SEQUENCE_HEADER = 1
_FRAME_UNITS = (3, 6)  # a frame's header alone, a whole frame
_CONTAINERS = {  # boxes of boxes, and the bytes in front of the first
    **dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"iprp", b"ipco", b"grpl"), 0),
    **dict.fromkeys((b"meta", b"iref"), 4),
    b"iinf": 6,
}
_LINKS = (b"iref", b"ipma")
_SEQUENCE_HEADER_BYTES = 1_024  # at most some 400


class CutShort(HeaderError):
    """A container whose boxes do not lie in it."""


class Box(NamedTuple):
    """A box of the container: its type, and the start and end of its body in the file."""

    kind: bytes
    start: int
    end: int


class _Reader:
    """A cursor over big-endian numbers. Raises HeaderError past the end."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self.position, self._end = data, start, end

    def take(self, width: int) -> int:
        start, self.position = self.position, self.position + width
        if self.position > self._end:
            raise CutShort("a container that is cut short")
        return int.from_bytes(self._data[start : self.position], "big")


class _Bits:
    """A cursor over bits, most significant first; zeros follow the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, width: int) -> int:
        self._left -= width
        value = self._value >> self._left if self._left >= 0 else 0
        return value & ((1 << width) - 1)


def is_avif(data: bytes) -> bool:
    """Whether the file's brands include AVIF; HEIC, which shares the container, is not AVIF."""
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    return data[4:8] == b"ftyp" and (b"avif" in brands or b"avis" in brands)


def cleaned(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """The file with its EXIF hidden, and the (width, height) of each AV1 image in it. Raises HeaderError."""
    if data[8:12] == b"avis":
        raise HeaderError("a sequence of frames; of AVIF only still images are allowed")
    _check_boxes(data)
    meta = _meta(data)
    kinds = _item_kinds(data, meta)
    sizes = []
    for count, (kind, unit) in enumerate(_units(data, meta, kinds)):
        if count > MAX_UNITS:
            raise HeaderError(f"more than {MAX_UNITS} AV1 units")
        if kind == _SEQUENCE_HEADER:
            sizes.append(_frame_size(_Bits(unit)))
    return _without_exif(data, kinds), tuple(sizes)


def _without_exif(data: bytes, kinds: dict[int, tuple[bytes, int]]) -> bytes:
    """Broken EXIF fails the decoder, and AVIF has its own orientation."""
    positions = [position for kind, position in kinds.values() if kind == b"Exif"]
    if not positions:
        return data
    hidden = bytearray(data)
    for position in positions:
        hidden[position : position + 4] = b"free"
    return bytes(hidden)


def _check_boxes(data: bytes) -> None:
    """Bound the boxes at every depth, and the tables of links between items."""
    pending, count = [(0, len(data))], 0
    while pending:
        try:
            for box in _boxes(data, *pending.pop()):
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


def _boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    while start + 8 <= end:
        reader = _Reader(data, start, end)
        size, kind = reader.take(4), reader.take(4).to_bytes(4, "big")
        size = reader.take(8) if size == 1 else size or end - start
        if size < reader.position - start or start + size > end:
            raise CutShort("a container that is cut short")
        yield Box(kind, reader.position, start + size)
        start += size


def _meta(data: bytes) -> dict[bytes, Box]:
    """The boxes of the file's description, by type."""
    for box in _boxes(data, 0, len(data)):
        if box.kind == b"meta":
            return {child.kind: child for child in _boxes(data, box.start + 4, box.end)}
    raise HeaderError("no description of its items")


def _item_kinds(data: bytes, meta: dict[bytes, Box]) -> dict[int, tuple[bytes, int]]:
    """The type of each item by its id, with the type's position in the file."""
    kinds: dict[int, tuple[bytes, int]] = {}
    if b"iinf" not in meta:
        return kinds
    _, start, end = meta[b"iinf"]
    for box in _boxes(data, start + (8 if data[start] else 6), end):
        version = data[box.start] if box.start < box.end else 0
        if box.kind == b"infe" and version >= 2:
            reader = _Reader(data, box.start + 4, box.end)
            item = reader.take(2 if version == 2 else 4)
            reader.take(2)  # protection
            kinds[item] = reader.take(4).to_bytes(4, "big"), reader.position - 4
        if len(kinds) > MAX_ITEMS:
            raise HeaderError(f"more than {MAX_ITEMS} items")
    return kinds


def _extents(data: bytes, meta: dict[bytes, Box]) -> Iterator[tuple[int, int, int]]:
    """Yield (item id, start, end in the file) of every extent of every item."""
    if b"iloc" not in meta:
        return
    reader = _Reader(data, meta[b"iloc"].start, meta[b"iloc"].end)
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


def _units(
    data: bytes, meta: dict[bytes, Box], kinds: dict[int, tuple[bytes, int]]
) -> Iterator[tuple[int, bytes]]:
    """Yield (type, first bytes) of each AV1 unit of each AV1 item."""
    pieces: dict[int, list[memoryview]] = {}
    for count, (item, start, end) in enumerate(_extents(data, meta)):
        if count > MAX_ITEMS:
            raise HeaderError(f"items in more than {MAX_ITEMS} extents")
        if kinds.get(item, (b"", 0))[0] == b"av01":
            pieces.setdefault(item, []).append(memoryview(data)[start:end])
    if sum(len(piece) for item in pieces.values() for piece in item) > 2 * len(data):
        raise HeaderError("items that overlap")
    for item_pieces in pieces.values():
        yield from _item_units(b"".join(item_pieces))


def _item_units(content: bytes) -> Iterator[tuple[int, bytes]]:
    position = frames = 0
    while position < len(content):
        head = content[position]
        position += 2 if head & 4 else 1
        size = len(content) - position
        if head & 2:  # a LEB128 length follows: seven bits a byte, lowest first
            size = 0
            for shift in range(0, 56, 7):
                byte = content[position] if position < len(content) else 0
                size, position = size | (byte & 127) << shift, position + 1
                if byte < 128:
                    break
        kind = head >> 3 & 15
        frames += kind in _FRAME_UNITS
        if frames > MAX_FRAMES:
            raise HeaderError(f"more than {MAX_FRAMES} frames in an item")
        yield kind, content[position : position + _SEQUENCE_HEADER_BYTES]
        position += size


def _frame_size(bits: _Bits) -> Size:
    """Read sequence_header_obu() up to its largest frame size."""
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced still picture header
        bits.take(5)
    else:
        _skip_operating_points(bits, delay_width=_skip_timing(bits))
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_timing(bits: _Bits) -> int:
    """Skip timing_info() and decoder_model_info(); the width of a buffer delay, 0 without a decoder model."""
    if not bits.take(1):
        return 0
    bits.take(64)
    if bits.take(1):  # equal picture interval, in uvlc()
        zeros = 0
        while zeros < 32 and not bits.take(1):
            zeros += 1
        bits.take(zeros if zeros < 32 else 0)
    if not bits.take(1):
        return 0
    delay_width = bits.take(5) + 1
    bits.take(42)
    return delay_width


def _skip_operating_points(bits: _Bits, delay_width: int) -> None:
    has_display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_width and bits.take(1):
            bits.take(2 * delay_width + 1)
        if has_display_delay and bits.take(1):
            bits.take(4)
