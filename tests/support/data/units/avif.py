"""Units of AVIF."""

import struct

from tests.support.data.image_files import box, encoded, noise
from tests.support.data.units.common import Make, repeated

_AVIF = encoded(noise(), "AVIF", speed=10)


def _avif_boxes(unit: bytes) -> Make:
    """In front of the description; its offsets are of no account, as the walk comes first."""
    start = int.from_bytes(_AVIF[:4], "big")
    return lambda size: _AVIF[:start] + repeated(unit, size) + _AVIF[start:]


def _in_meta(unit: bytes, container: tuple[bytes, ...] = (b"meta",)) -> Make:
    """Units at the end of a container; the offset of the picture's data is moved."""

    def make(size: int) -> bytes:
        units = repeated(unit, size)
        data = bytearray(_AVIF)
        end = 0
        for kind in container:
            start = data.index(kind) - 4
            old = int.from_bytes(data[start : start + 4], "big")
            data[start : start + 4] = (old + len(units)).to_bytes(4, "big")
            end = start + old
        place = data.index(b"iloc") + 18  # one extent: its offset
        where = int.from_bytes(data[place : place + 4], "big")
        data[place : place + 4] = (where + len(units)).to_bytes(4, "big")
        data[end:end] = units
        return bytes(data)

    return make


def _item(number: int, kind: bytes = b"Exif") -> bytes:
    return box(b"infe", struct.pack(">I", 0x03000000), struct.pack(">IH", number, 0), kind, b"\0")


def _items(kind: bytes) -> Make:
    def make(size: int) -> bytes:
        count = size // len(_item(1, kind))
        units = b"".join(_item(number + 9, kind) for number in range(count))
        return _in_meta(units, (b"meta", b"iinf"))(1)

    return make


AVIF_UNITS: dict[str, Make] = {
    "free": _avif_boxes(box(b"free")),
    "free in meta": _in_meta(box(b"free")),
    "free in items": _in_meta(box(b"free"), (b"meta", b"iinf")),
    "property": _in_meta(box(b"free"), (b"meta", b"iprp", b"ipco")),
    "ispe": _in_meta(box(b"ispe", bytes(12)), (b"meta", b"iprp", b"ipco")),
    "reference": _in_meta(box(b"iref", bytes(4), box(b"cdsc", b"\0\1\0\1\0\1") * 1000)),
    "exif item": _items(b"Exif"),
    "other item": _items(b"mime"),
    "picture item": _items(b"av01"),
    "group": _in_meta(box(b"grpl", box(b"altr", bytes(8)) * 1000)),
}
