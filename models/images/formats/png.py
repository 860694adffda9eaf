"""PNG: bounds the chunks, and drops what is not the picture, its transparency or its orientation.

A decoder would read and inflate metadata for nothing, and refuse the picture for a damaged chunk. Damage
in transparency or orientation is dropped too, as libpng and so every browser does.
"""

import zlib

from models.images.formats.errors import HeaderError, Size

MAX_CHUNKS = 100_000  # image data in chunks of a kilobyte; 0.1 s
MAX_CRITICAL = 200  # chunks that are neither image data nor metadata; a file has about four
MAX_METADATA = 16  # chunks that may state the orientation; a file has one

_DATA = b"IDAT"
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_APPLE = b"CgBI"  # the first chunk of a PNG that Xcode has packed into an app
_ANCILLARY = 0x20
_KEY_BYTES = {0: (2, 2), 2: (6, 6), 3: (1, 256)}  # of tRNS, at least and at most, by colour type


def cleaned(data: bytes, frames: int = 1) -> tuple[bytes, tuple[Size, ...]]:
    """The file without metadata, and without its animation where one frame is wanted. Raises HeaderError."""
    parts, begin, position, chunks, critical, metadata = [], 0, 8, 0, 0, 0
    pictured = False
    if data[12:16] == _APPLE:
        raise HeaderError("Apple's form of PNG inside apps (CgBI), which other programs do not read")
    while position + 8 <= len(data) and (kind := data[position + 4 : position + 8]) != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        chunks += 1
        pictured = pictured or kind == _DATA
        kept = kind == _DATA or (kind in _ANIMATION and frames > 1)
        if not kept and not kind[0] & _ANCILLARY:
            kept, critical = True, critical + 1
        elif kind == b"tRNS" and not pictured:
            kept = _is_whole(data, position, end) and _is_key(data, end - position - 12)
            critical += kept
        elif kind == b"eXIf" and metadata < MAX_METADATA:
            kept = _is_whole(data, position, end)
            metadata += kept
        if not kept:
            parts.append(data[begin:position])
            begin = end
        if chunks > MAX_CHUNKS or critical > MAX_CRITICAL:
            raise HeaderError(f"more than {MAX_CHUNKS} chunks, or {MAX_CRITICAL} that are not its data")
        position = end
    return b"".join((*parts, data[begin:])) if parts else data, ()


def _is_whole(data: bytes, position: int, end: int) -> bool:
    """Whether a chunk lies in the file and has its checksum."""
    return zlib.crc32(memoryview(data)[position + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


def _is_key(data: bytes, length: int) -> bool:
    """Whether transparency has a length that the colour type in the head allows."""
    least, most = _KEY_BYTES.get(data[25] if len(data) > 25 else 0, (1, 0))
    return least <= length <= most
