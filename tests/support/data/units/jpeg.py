"""Units of JPEG."""

from collections.abc import Callable

from tests.support.data.image_files import encoded, noise, segment
from tests.support.data.units.common import Make, behind, exif_of, repeated

Place = Callable[[bytes], Make]
_JPEG = encoded(noise(), "JPEG")
_PROGRESSIVE = encoded(noise(), "JPEG", progressive=True)
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


def _in_front(unit: bytes) -> Make:
    return lambda size: _JPEG[:2] + repeated(unit, size) + _JPEG[2:]


def _in_tables(unit: bytes) -> Make:
    """In front of the scan, behind the tables."""
    scan = _JPEG.index(b"\xff\xda")
    return lambda size: _JPEG[:scan] + repeated(unit, size) + _JPEG[scan:]


def _in_scan(unit: bytes) -> Make:
    return lambda size: _JPEG[:-40] + repeated(unit, size) + _JPEG[-40:]


def _between_scans(unit: bytes) -> Make:
    scan = _PROGRESSIVE.rindex(b"\xff\xda")
    return lambda size: _PROGRESSIVE[:scan] + repeated(unit, size) + _PROGRESSIVE[scan:]


def _restarts(size: int) -> bytes:
    scan = _JPEG.index(b"\xff\xda")
    return _JPEG[:scan] + segment(0xDD, b"\0\1") + _JPEG[scan:-2] + repeated(b"\xff\xd0", size) + _JPEG[-2:]


def _table(marker: int) -> bytes:
    start = _JPEG.index(bytes((0xFF, marker)))
    return _JPEG[start : start + 2 + int.from_bytes(_JPEG[start + 2 : start + 4], "big")]


def _app1(body: bytes) -> bytes:
    return segment(0xE1, body[:65_533])


_JPEG_UNITS = {
    "fill": b"\xff",
    "stuffing": b"\xff\0",
    "restart": b"\xff\xd0",
    "temporary": b"\xff\x01",
    "zeros": b"\0",
    "junk": b"junk",
    "start": b"\xff\xd8",
    "end": b"\xff\xd9",
    "comment": segment(0xFE, b""),
    "long comment": segment(0xFE, bytes(65_000)),
    "application": segment(0xE5, b""),
    "long application": segment(0xE5, bytes(65_000)),
    "unknown": b"\xff\xf0",
    "quantization": _table(0xDB),
    "huffman": _table(0xC4),
    "interval": segment(0xDD, b"\0\0"),
    "frame": _table(0xC0),
    "photoshop": segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000),
    "profile": segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65_000)),
    "xmp": _app1(_XMP + b"tiff:Orientation" * 4000),
    "exif": _app1(_EXIF + exif_of(65_000, 5000)),
    "empty exif": _app1(_EXIF),
    "picture": _JPEG,
}


def _exif_in_segments(size: int) -> bytes:
    body = exif_of(min(size, 20_000_000), 60_000)
    parts = [_app1(_EXIF + body[at : at + 65_000]) for at in range(0, len(body), 65_000)]
    return _JPEG[:2] + b"".join(parts) + _JPEG[2:]


def jpeg_units() -> dict[str, Make]:
    """The files by name."""
    units: dict[str, Make] = {}
    for name, unit in _JPEG_UNITS.items():
        places: dict[str, Place] = {"": _in_front, " at the scan": _in_tables, " in the scan": _in_scan}
        places |= {" between scans": _between_scans, " behind": behind(_JPEG)}
        units |= {f"{name}{where}": place(unit) for where, place in places.items()}
    return units | {"restart in intervals": _restarts, "exif in segments": _exif_in_segments}
