"""WebP: drops what is not the picture, and reads the size of the canvas, which a decoder allocates twice."""

from models.images.formats.errors import HeaderError, Size

MAX_CHUNKS = 100_000  # frames of an animation; 0.05 s
_HEAD = 12  # bytes: RIFF, the size, WEBP
_KEPT = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"EXIF"})


def cleaned(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """The file without profiles and texts, with its true length. Raises HeaderError.

    A decoder refuses the picture where a chunk behind it is cut short, or the file's own length is wrong.
    """
    parts, position, chunks, view = list[bytes | memoryview](), _HEAD, 0, memoryview(data)
    while position + 8 <= len(data):
        kind = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        end = position + 8 + length + (length & 1)
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise HeaderError(f"more than {MAX_CHUNKS} chunks")
        if kind in _KEPT and not (kind == b"EXIF" and end > len(data) + 1):
            parts.append(view[position:end])
            if end == len(data) + 1:  # some encoders leave out the padding
                parts.append(b"\0")
        position = end
    head = b"RIFF" + (sum(map(len, parts)) + 4).to_bytes(4, "little") + b"WEBP"
    if data.startswith(head) and len(data) == _HEAD + sum(map(len, parts)):
        return data, (_canvas(data),)  # nothing was dropped: no copy
    return b"".join((head, *parts)), (_canvas(data),)


def _canvas(data: bytes) -> Size:
    kind, body = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
