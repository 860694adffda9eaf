"""Units of BMP."""

import struct

from tests.support.data.units.common import Make, repeated


def _bmp(width: int, height: int, bits: int, compression: int, data: bytes) -> bytes:
    palette = bytes(4 << bits) if bits <= 8 else b""
    start = 54 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + palette + data


def _rle(unit: bytes, bits: int) -> Make:
    return lambda size: _bmp(7000, 7000, bits, 1 if bits == 8 else 2, repeated(unit, size))


def _raw_bmp(size: int) -> bytes:
    return _bmp(1000, size // 3000, 24, 0, bytes(size))


BMP_UNITS: dict[str, Make] = {
    "run": _rle(b"\1\1", 8),
    "run of none": _rle(b"\1\1" * 7000 + b"\0\0", 8),
    "run of four bits": _rle(b"\1\1", 4),
    "long run of four bits": _rle(b"\xff\1", 4),
    "line": _rle(b"\0\0", 8),
    "pixel and line": _rle(b"\1\1\0\0", 8),
    "delta": _rle(b"\0\2\0\0", 8),
    "absolute": _rle(b"\0\3\1\1\1\0", 8),
    "absolute of four bits": _rle(b"\0\xff" + bytes(128), 4),
    "pixels": _raw_bmp,
}
