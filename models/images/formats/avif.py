"""Reads the real frame sizes of an AVIF file from its AV1 data.

An AVIF file states its size in the container, and again in the AV1 data of every item. If they disagree, a
decoder decodes the AV1 size and scales afterwards: a file of two kilobytes that claims 64 x 64 pixels can
take a gigabyte. This module walks the container (ISO/IEC 14496-12, ISO/IEC 23008-12) to its AV1 items and
reads the sequence header of each (AV1 specification, 5.5). A frame may override its size within the field
widths of that header; only the decoding library's own limit, 2^28 pixels, bounds that.
"""

from collections.abc import Iterator

from models.images.formats import isobmff
from models.images.formats.errors import HeaderError, Size
from models.images.formats.isobmff import Bits

MAX_UNITS = 50_000  # AV1 units (OBUs) in a file: a grid of 64 x 64 cells has about four per cell
MAX_FRAMES = 8  # AV1 frames in an item: a still image has one, a layered one four; each may fill the picture
_SEQUENCE_HEADER = 1
_FRAME_UNITS = (3, 6)  # a frame's header alone, a whole frame
_SEQUENCE_HEADER_BYTES = 1_024  # at most some 400
_PICTURES = frozenset({b"av01"})
_BRANDS = frozenset({b"avif", b"avis"})
_SEQUENCE = b"avis"


def is_avif(data: bytes) -> bool:
    """Whether the file's brands include AVIF; HEIC, which shares the container, is not AVIF."""
    return not _BRANDS.isdisjoint(isobmff.brands(data))


def cleaned(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """The file with its metadata hidden, and the (width, height) of each AV1 image in it. Raises HeaderError.

    Of a sequence only the first frame counts: the first sample of each track, and the items if it has any.
    """
    isobmff.check_boxes(data)
    sequence = data[8:12] == _SEQUENCE
    meta = isobmff.item_boxes(data, required=not sequence)
    kinds = isobmff.item_kinds(data, meta)
    pictures = [*isobmff.contents(data, meta, kinds, _PICTURES).values()]
    pictures += isobmff.first_samples(data) if sequence else ()
    return isobmff.without_metadata(data, kinds), tuple(_sizes(pictures))


def _sizes(pictures: list[bytes]) -> Iterator[Size]:
    count = 0
    for picture in pictures:
        for kind, unit in _units(picture):
            count += 1
            if count > MAX_UNITS:
                raise HeaderError(f"more than {MAX_UNITS} AV1 units")
            if kind == _SEQUENCE_HEADER:
                yield _frame_size(Bits(unit))


def _units(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, first bytes) of each AV1 unit of an item or a sample."""
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


def _frame_size(bits: Bits) -> Size:
    """Read sequence_header_obu() up to its largest frame size."""
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced still picture header
        bits.take(5)
    else:
        _skip_operating_points(bits, delay_width=_skip_timing(bits))
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_timing(bits: Bits) -> int:
    """Skip timing_info() and decoder_model_info(); the width of a buffer delay, 0 without a decoder model."""
    if not bits.take(1):
        return 0
    bits.take(64)
    if bits.take(1):  # equal picture interval
        bits.exp_golomb()
    if not bits.take(1):
        return 0
    delay_width = bits.take(5) + 1
    bits.take(42)
    return delay_width


def _skip_operating_points(bits: Bits, delay_width: int) -> None:
    has_display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_width and bits.take(1):
            bits.take(2 * delay_width + 1)
        if has_display_delay and bits.take(1):
            bits.take(4)
