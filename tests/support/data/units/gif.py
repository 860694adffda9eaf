"""Units of GIF."""

from tests.support.data.image_files import encoded, noise
from tests.support.data.units.common import Make, behind, repeated

_GIF = encoded(noise().quantize(16), "GIF")
_GIF_START = 13 + 3 * 16
_GIF_FRAME = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"


def _gif(unit: bytes) -> Make:
    return lambda size: _GIF[:_GIF_START] + repeated(unit, size) + _GIF[_GIF_START:]


def _gif_blocks(label: bytes, block: bytes) -> Make:
    return lambda size: _GIF[:_GIF_START] + b"!" + label + repeated(block, size) + b"\0" + _GIF[_GIF_START:]


def _gif_data(size: int) -> bytes:
    start = _GIF.index(b",", _GIF_START) + 11
    return _GIF[:start] + _GIF[start:-2] + repeated(b"\1\0\1\0".replace(b"\0", b"\1"), size) + b"\0;"


_GIF_UNITS = {
    "junk": b"x",
    "zeros": b"\0",
    "comment": b"!\xfe\1a\0",
    "empty extension": b"!\xfe\0",
    "control": b"!\xf9\4\0\0\0\0\0",
    "application": b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0",
    "text": b"!\1\x0c" + bytes(12) + b"\0",
    "frame": _GIF_FRAME,
    "end": b";",
}


def gif_units() -> dict[str, Make]:
    """The files by name."""
    units: dict[str, Make] = {"data block": _gif_data}
    for name, unit in _GIF_UNITS.items():
        units |= {name: _gif(unit), f"{name} behind": behind(_GIF[:-1])(unit)}
    labels = {"comment": b"\xfe", "application": b"\xff", "control": b"\xf9", "text": b"\1"}
    for name, label in labels.items():
        units[f"{name} block"] = _gif_blocks(label, b"\1a")
        units[f"long {name} block"] = _gif_blocks(label, b"\xff" + bytes(255))
    return units
