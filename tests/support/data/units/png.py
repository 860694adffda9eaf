"""Units of PNG."""

import struct
import zlib

from tests.support.data.image_files import chunk, encoded, noise
from tests.support.data.units.common import Make, behind, exif_of, repeated

_PNG = encoded(noise(), "PNG")
_APNG = encoded(noise(), "PNG", save_all=True, append_images=[noise().rotate(90)])


def _behind_header(unit: bytes) -> Make:
    return lambda size: _PNG[:33] + repeated(unit, size) + _PNG[33:]


def _in_data(unit: bytes) -> Make:
    end = len(_PNG) - 12
    return lambda size: _PNG[:end] + repeated(unit, size) + _PNG[end:]


def _data_in_parts(length: int) -> Make:
    """Image data in chunks of `length` bytes."""

    def make(size: int) -> bytes:
        height = size * length // (12 + length) // 1001
        rows = zlib.compress(bytes(1001 * height), 0)
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1000, height, 8, 0, 0, 0, 0))
        parts = b"".join(chunk(b"IDAT", rows[at : at + length]) for at in range(0, len(rows), length))
        return _PNG[:8] + header + parts + chunk(b"IEND", b"")

    return make


def _apng(unit: bytes) -> Make:
    end = len(_APNG) - 12
    return lambda size: _APNG[:end] + repeated(unit, size) + _APNG[end:]


_INFLATING = zlib.compress(bytes(1_000_000))
_PNG_UNITS = {
    "private": chunk(b"prVt", b""),
    "text": chunk(b"tEXt", b"a\0b"),
    "empty text": chunk(b"tEXt", b""),
    "compressed text": chunk(b"zTXt", b"a\0\0" + _INFLATING),
    "international text": chunk(b"iTXt", b"a\0\0\0\0\0b"),
    "xmp": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"tiff:Orientation" * 4000),
    "profile": chunk(b"iCCP", b"a\0\0" + _INFLATING),
    "exif": chunk(b"eXIf", exif_of(60_000, 5000)),
    "raw exif": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n8\n" + exif_of(60_000, 5000).hex().encode()),
    "time": chunk(b"tIME", bytes(7)),
    "palette": chunk(b"PLTE", bytes(3)),
    "transparency": chunk(b"tRNS", bytes(6)),
    "header": _PNG[8:33],
    "end": chunk(b"IEND", b""),
    "frame control": chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 1, 0, 0)),
    "frame data": chunk(b"fdAT", bytes(4)),
    "animation": chunk(b"acTL", struct.pack(">II", 1, 0)),
    "data": chunk(b"IDAT", b""),
    "zeros": b"\0",
}


def png_units() -> dict[str, Make]:
    """The files by name."""
    units: dict[str, Make] = {}
    for name, unit in _PNG_UNITS.items():
        places = {"": _behind_header, " in the data": _in_data, " in an animation": _apng}
        units |= {f"{name}{where}": place(unit) for where, place in places.items()}
        units[f"{name} behind"] = behind(_PNG)(unit)
    units |= {f"data of {length} bytes": _data_in_parts(length) for length in (1, 8, 200)}
    raw = b"Raw profile type exif\0\nexif\n8\n"
    units["one raw exif"] = lambda size: (
        _PNG[:33] + chunk(b"tEXt", raw + exif_of(size // 2, 60_000).hex().encode()) + _PNG[33:]
    )
    units["one exif"] = lambda size: _PNG[:33] + chunk(b"eXIf", exif_of(size, 60_000)) + _PNG[33:]
    return units
