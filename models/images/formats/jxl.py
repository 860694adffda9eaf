"""JPEG XL: reads the size of the picture, and drops what is not the picture.

How many frames or layers there are, and what each takes, is not stated where it can be read without decoding:
models/images/jxl_process.py bounds the decoder itself.
"""

from models.images.formats import isobmff
from models.images.formats.errors import HeaderError, Size

_STREAM, _CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_KEPT = frozenset({b"JXL ", b"ftyp", b"jxll", b"jxlc", b"jxlp"})
_HEADER_BYTES = 64  # of a stream, of which the size takes at most 9
_SIDE_BITS = (9, 13, 18, 30)
_RATIOS = (None, (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


class _Bits:
    """A cursor over bits, least significant first; zeros follow the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, width: int) -> int:
        taken = self._value & ((1 << width) - 1)
        self._value >>= width
        return taken


def is_jxl(data: bytes) -> bool:
    """Whether the data is a stream of JPEG XL, bare or in its container."""
    return data.startswith((_STREAM, _CONTAINER))


def cleaned(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """The file without metadata, and the picture's size. Raises HeaderError.

    Without what would restore a JPEG too: that takes the time of a second encoding and decoding.
    """
    stream = data
    if data.startswith(_CONTAINER):
        isobmff.check_boxes(data)
        kept, start, stream = [], 0, b""
        for box in isobmff.whole_boxes(data, 0, len(data)):
            if box.kind in _KEPT:
                kept.append(data[start : box.end])
            if box.kind in (b"jxlc", b"jxlp") and len(stream) < _HEADER_BYTES:  # a part has a number in front
                begin = box.start + (4 if box.kind == b"jxlp" else 0)
                stream += data[begin : min(box.end, begin + _HEADER_BYTES)]
            start = box.end
        data = b"".join(kept)
    if not stream.startswith(_STREAM):
        raise HeaderError("no stream of JPEG XL in it")
    return data, (_size(_Bits(stream[2:_HEADER_BYTES])),)


def _size(bits: _Bits) -> Size:
    """Read SizeHeader and ImageMetadata as far as its animation. Raises HeaderError for an animation."""
    size = _dimensions(bits)
    if not bits.take(1) and bits.take(1):  # not all as usual, and more fields
        bits.take(3)  # orientation, which the decoder applies
        if bits.take(1):
            _dimensions(bits)  # a size to be shown at
        if not bits.take(1) and bits.take(1):  # no preview, and frames with a duration
            raise HeaderError("an animation in JPEG XL, which is not supported: save its frame as PNG")
    return size


def _dimensions(bits: _Bits) -> Size:
    small = bits.take(1)
    height = _side(bits, small)
    ratio = _RATIOS[bits.take(3)]
    return (height * ratio[0] // ratio[1] if ratio else _side(bits, small)), height


def _side(bits: _Bits, small: int) -> int:
    return 8 * (bits.take(5) + 1) if small else bits.take(_SIDE_BITS[bits.take(2)]) + 1
