"""PNG: bounds the chunks, and drops metadata that a decoder would read, and inflate, for nothing."""

from models.images.formats.errors import HeaderError, Size

MAX_CHUNKS = 100_000  # image data in chunks of a kilobyte; 0.1 s
MAX_CRITICAL = 200  # chunks that are neither image data nor metadata; a file has about four
MAX_METADATA = 16  # chunks that may state the orientation; a file has one

_PICTURE = frozenset({b"IDAT", b"fdAT", b"fcTL"})
_READ = frozenset({b"tRNS", b"acTL"})  # beside the critical chunks, which begin with a capital letter
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_ORIENTED = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # keywords of texts that state it
_ANCILLARY = 0x20


def cleaned(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """The file without texts, profiles and unknown chunks. Raises HeaderError."""
    parts, begin, position, chunks, critical, metadata = [], 0, 8, 0, 0, 0
    while position + 8 <= len(data) and (kind := data[position + 4 : position + 8]) != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        chunks += 1
        if kind not in _PICTURE:
            if not kind[0] & _ANCILLARY or kind in _READ:
                critical += 1
            elif metadata < MAX_METADATA and _states_orientation(data, position, kind):
                metadata += 1
            else:
                parts.append(data[begin:position])
                begin = end
        if chunks > MAX_CHUNKS or critical > MAX_CRITICAL:
            raise HeaderError(f"more than {MAX_CHUNKS} chunks, or {MAX_CRITICAL} that are not its data")
        position = end
    return b"".join((*parts, data[begin:])) if parts else data, ()


def _states_orientation(data: bytes, position: int, kind: bytes) -> bool:
    return kind == b"eXIf" or (kind in _TEXTS and data.startswith(_ORIENTED, position + 8))
