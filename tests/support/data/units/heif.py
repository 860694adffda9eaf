"""Units of HEIF, in whose container AVIF's also lie; and of cameras' raw files."""

import struct

from tests.support.data.image_files import box, encoded, noise, segment
from tests.support.data.units.common import Make, repeated

_HEIC = encoded(noise(), "HEIF")
_META = _HEIC.index(b"meta") - 4


def _in_front(unit: bytes) -> Make:
    """In front of the description; its offsets are of no account, as the walk comes first."""
    return lambda size: _HEIC[:_META] + repeated(unit, size) + _HEIC[_META:]


def _in_properties(unit: bytes) -> Make:
    """Units at the end of the properties; the offsets of the picture's data are wrong then."""

    def make(size: int) -> bytes:
        units, data, end = repeated(unit, size), bytearray(_HEIC), 0
        for kind in (b"meta", b"iprp", b"ipco"):
            start = data.index(kind) - 4
            old = int.from_bytes(data[start : start + 4], "big")
            data[start : start + 4] = (old + len(units)).to_bytes(4, "big")
            end = start + old
        data[end:end] = units
        return bytes(data)

    return make


def _parameter_sets(size: int) -> bytes:
    """A decoder's configuration of sequence parameter sets of no content."""
    count = min(65_535, size // 4)
    sets = bytes((33, *struct.pack(">H", count))) + b"\0\2\x42\1" * count
    return _in_properties(box(b"hvcC", bytes(22), b"\1", sets))(1)


HEIF_UNITS: dict[str, Make] = {
    "free": _in_front(box(b"free")),
    "property": _in_properties(box(b"free")),
    "ispe": _in_properties(box(b"ispe", bytes(12))),
    "configuration": _in_properties(box(b"hvcC", bytes(23))),
    "parameter set": _parameter_sets,
}
_LINKS = struct.pack("<HHII", 330, 4, 400_000, 8)
RAW_UNITS: dict[str, Make] = {
    "start of a jpeg": lambda size: b"IIRO" + repeated(b"\xff\xd8\xff\xe0\0\2", size),
    "segment of a jpeg": lambda size: b"IIRO\xff\xd8" + repeated(segment(0xE5, b""), size),
    "fill": lambda size: b"IIRO" + repeated(b"\xff", size),
    "page below a page": lambda size: b"II*\0\x08\0\0\0" + repeated(struct.pack("<H", 1) + _LINKS, size),
}
