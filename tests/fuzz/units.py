"""Splits a file or body into the units of its grammar; joins them with right lengths and checksums."""

import re
import struct
import zlib
from collections.abc import Sequence

PNG = b"\x89PNG\r\n\x1a\n"
SLICE = 24  # bytes of a unit of what has no grammar here
_JPEG_MARKER = re.compile(rb"(?=\xff[\x01-\xfe])")
_GIF_BLOCK = re.compile(rb"(?=[\x21\x2c\x3b])")
_TEXT = re.compile(rb"(?<=[,:;&=\[\]{}\"\n])|(?=[,:;&=\[\]{}\"\n])")


def split(data: bytes) -> list[bytes]:
    """The units: segments, chunks, blocks, boxes, tokens of a text, else slices."""
    if data.startswith(PNG):
        return [PNG, *_counted(data[8:], ">I", kind_first=False, extra=12)]
    if data.startswith(b"RIFF"):
        return [data[:12], *_counted(data[12:], "<I", kind_first=True, extra=8)]
    if data[4:8] == b"ftyp":
        return _counted(data, ">I", kind_first=False, extra=0)
    for magic, pattern in ((b"\xff\xd8", _JPEG_MARKER), (b"GIF8", _GIF_BLOCK), (b"--", _TEXT), (b"{", _TEXT)):
        if data.startswith(magic):
            return [unit for unit in pattern.split(data) if unit]
    return [data[start : start + SLICE] for start in range(0, len(data), SLICE)]


def join(units: Sequence[bytes]) -> bytes:
    """The file; the checksums of PNG chunks and the length of a RIFF file are made right again."""
    if units and units[0] == PNG:
        return PNG + b"".join(_with_checksum(unit) for unit in units[1:])
    data = b"".join(units)
    if data.startswith(b"RIFF") and len(data) >= 12:
        return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    return data


def _counted(data: bytes, layout: str, *, kind_first: bool, extra: int) -> list[bytes]:
    """Units that begin with a kind and a length of four bytes each; the rest is one more unit."""
    units, start = [], 0
    while start + 8 <= len(data):
        (length,) = struct.unpack_from(layout, data, start + 4 * kind_first)
        end = start + max(8, length + extra)
        units.append(data[start:end])
        start = end
    return [*units, data[start:]] if data[start:] else units


def _with_checksum(unit: bytes) -> bytes:
    if len(unit) < 12:
        return unit
    kind, body = unit[4:8], unit[8:-4]
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
