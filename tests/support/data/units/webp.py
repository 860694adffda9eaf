"""Units of WebP."""

import struct

from tests.support.data.image_files import encoded, noise
from tests.support.data.units.common import Make, exif_of, repeated

_WEBP = encoded(noise(), "WEBP")


def _riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _extended(flags: int) -> bytes:
    return _webp_chunk(b"VP8X", struct.pack("<I", flags) + b"\x3f\0\0\x2f\0\0")


def _webp(unit: bytes, flags: int = 0, behind: bool = False) -> Make:
    def make(size: int) -> bytes:
        units = repeated(unit, size)
        return _riff(_extended(flags), *((_WEBP[12:], units) if behind else (units, _WEBP[12:])))

    return make


def _webp_animation(unit: bytes) -> Make:
    start = _webp_chunk(b"ANIM", bytes(6))
    return lambda size: _riff(_extended(2), start, repeated(unit, size))


_PIXEL = encoded(noise((8, 8)).resize((1, 1)), "WEBP", lossless=True)[12:]
_WEBP_FRAME = _webp_chunk(b"ANMF", bytes(12) + b"\1\0\0\0" + _PIXEL)
WEBP_UNITS: dict[str, Make] = {
    "unknown": _webp(b"prVt\0\0\0\0"),
    "unknown behind": _webp(b"prVt\0\0\0\0", behind=True),
    "exif": _webp(_webp_chunk(b"EXIF", b""), 8, behind=True),
    "one exif": lambda size: _riff(_extended(8), _WEBP[12:], _webp_chunk(b"EXIF", exif_of(size, 60_000))),
    "profile": _webp(_webp_chunk(b"ICCP", b""), 32),
    "xmp": _webp(_webp_chunk(b"XMP ", b""), 4, behind=True),
    "one xmp": lambda size: _riff(
        _extended(4), _WEBP[12:], _webp_chunk(b"XMP ", repeated(b"tiff:Orientation", size))
    ),
    "alpha": _webp(_webp_chunk(b"ALPH", b""), 16),
    "frame": _webp_animation(_WEBP_FRAME),
    "empty frame": _webp_animation(_webp_chunk(b"ANMF", bytes(16))),
    "picture": lambda size: _riff(_extended(0), repeated(_WEBP[12:], size)),
    "zeros": lambda size: _WEBP + bytes(size),
}
