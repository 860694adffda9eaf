"""JPEG: bounds segments, fill and scans, and drops what the decoder would only skip.

Pillow walks what lies in front of the first scan byte by byte in Python: 20 MB of fill bytes took it 8.5 s.
libjpeg walks the rest in C, at some nanoseconds a byte.
"""

import re

from models.images.formats import jpeg_colors, tiff
from models.images.formats.errors import HeaderError, Size

MAX_SEGMENTS = 100_000  # in front of the first scan, 0.1 s; a depth map or a video takes a few hundred
MAX_KEPT_SEGMENTS = 2_000  # of those that the decoder reads, 20 µs each; an encoder writes about ten
MAX_FILL = 65_536  # bytes between segments, all together; cameras pad to a block of 4 or 32 KB
USUAL_SEGMENTS, USUAL_FILL = 64, 4_096  # up to so many the file stays as it is: copying it costs more
MAX_SCANS = 100  # a progressive encoder writes about 10; each scan visits the whole picture
MIN_SCANS = 20  # … which any picture may have
MAX_SCANNED_PIXELS = 1_500_000_000  # pixels times scans: about a second
MAX_METADATA = 16  # EXIF segments that are read for the orientation; one is usual

_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")  # no stuffing, padding, restart or TEM
_WITH_LENGTH = frozenset(range(0xC0, 0xFF)) - {0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HIERARCHICAL = frozenset({*range(0xC5, 0xC8), *range(0xCD, 0xD0)})
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_BITS = 4  # the position of a sample's depth in a frame's segment
_LONG_FILL = b"\xff" * MAX_FILL
_NO_FILL = re.compile(rb"[^\xff]")
_END, _SCAN = 0xD9, 0xDA
_SCAN_HEADER = re.compile(rb"\xff\xda\0")  # marker and length, of at most 14
# APP0 and APP14 say how colours are stored, APP1 the orientation; the others, and comments, are dropped.
_DROPPED = frozenset(range(0xE2, 0xF0)) - {0xEE} | {0xFE}
_APP0, _APP1, _APP2, _APP13, _APP14 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE
# What libjpeg takes as these: Pillow takes shorter ones too, and fails at them.
_PROFILE_HEAD = 14  # bytes in front of the part of a profile
_COLOURS = {_APP0: (b"JFIF\0", 14), _APP14: (b"Adobe", 12)}
_EXIF = b"Exif\0\0"


def cleaned(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """The file, without what a decoder would skip slowly in front of its first scan. Raises HeaderError."""
    parts, metadata, walked, fill, position = [data[:2]], list[bytes](), 0, 0, 2
    frame, colours, plain = b"", dict[int, bytes](), True
    while match := _MARKER.search(data, position, position + MAX_FILL - fill + 2):
        start, marker = match.start(), data[match.start() + 1]
        fill += start - position
        if marker == _SCAN:
            _check_scans(data, start, frame)
            jpeg_colors.check_inks(frame, has_adobe=_APP14 in colours)
            readable = _readable(metadata)
            usual = walked <= USUAL_SEGMENTS and fill <= USUAL_FILL and len(readable) == len(metadata)
            if usual and plain and not _has_long_fill(data, start):
                return data, ()
            parts += (*colours.values(), *readable)
            return b"".join((*parts, *_without_long_fill(data, start))), ()
        walked, position = walked + 1, _after(data, start)
        if walked > MAX_SEGMENTS or len(parts) > MAX_KEPT_SEGMENTS:
            raise HeaderError(f"more than {MAX_KEPT_SEGMENTS} segments, or {MAX_SEGMENTS} with its metadata")
        if marker == _APP1:
            metadata += [data[start:position]] if data.startswith(_EXIF, start + 4) else []
        elif marker in _COLOURS:
            kept = _states_colours(data, start, position)
            colours |= {marker: data[start:position]} if kept else {}
            plain = plain and kept
        elif marker not in _DROPPED:
            parts.append(data[start:position])
            frame = _checked_frame(parts[-1]) if marker in _FRAMES else frame
        else:
            plain = plain and _is_harmless(data, start, position)
    if position + MAX_FILL - fill < len(data):
        raise HeaderError(f"more than {MAX_FILL} bytes between its segments")
    return b"".join(parts), ()


def _checked_frame(frame: bytes) -> bytes:
    """The segment of a frame, whose kind of JPEG viewers read. Raises HeaderError."""
    if frame[1] in _HIERARCHICAL:
        raise HeaderError("a frame of a hierarchy: hierarchical JPEG is not supported")
    if len(frame) > _BITS and frame[_BITS] != 8:
        raise HeaderError(f"samples of {frame[_BITS]} bits: {frame[_BITS]}-bit JPEG is not supported")
    return frame


def _is_harmless(data: bytes, start: int, end: int) -> bool:
    """Whether Pillow reads a segment that is not needed: it fails at short ones of two kinds."""
    marker = data[start + 1]
    return marker != _APP13 and (marker != _APP2 or end - start - 4 >= _PROFILE_HEAD)


def _states_colours(data: bytes, start: int, end: int) -> bool:
    """Whether a segment APP0 or APP14 states how colours are stored."""
    mark, length = _COLOURS[data[start + 1]]
    return data.startswith(mark, start + 4) and end - start - 4 >= length


def _readable(metadata: list[bytes]) -> list[bytes]:
    """The segments of EXIF; none where a reader could not take its tags in reasonable time."""
    exif = metadata[:MAX_METADATA]
    return [] if tiff.has_excessive_tags(b"".join(segment[10:] for segment in exif)) else exif


def _has_long_fill(data: bytes, start: int) -> bool:
    """Whether the scans have a run of fill that is longer than a segment may be, in a file of a megabyte."""
    return len(data) > 16 * MAX_FILL and data.find(_LONG_FILL, start) >= 0


def _without_long_fill(data: bytes, start: int) -> list[bytes]:
    """The scans, without runs of fill that are longer than a segment may be.

    libjpeg reads a run again and again while Pillow gives it the file in pieces: 20 MB took it 1.5 s.
    """
    parts = []
    while (fill := data.find(_LONG_FILL, start)) >= 0:
        parts.append(data[start : fill + 1])
        end = _NO_FILL.search(data, fill)
        start = end.start() if end else len(data)
    return [*parts, data[start:]]


def _check_scans(data: bytes, position: int, frame: bytes) -> None:
    """Bound the scans up to the end of the image: fewer in one of many pixels."""
    if sum(1 for _ in _SCAN_HEADER.finditer(data, position)) <= MIN_SCANS:  # an upper bound, and faster
        return
    height, width = (int.from_bytes(frame[at : at + 2], "big") for at in (5, 7))
    allowed = max(MIN_SCANS, min(MAX_SCANS, MAX_SCANNED_PIXELS // max(1, width * height)))
    scans = walked = 0
    while (match := _MARKER.search(data, position)) and (marker := data[match.start() + 1]) != _END:
        scans, walked, position = scans + (marker == _SCAN), walked + 1, _after(data, match.start())
        if scans > allowed or walked > MAX_SEGMENTS:
            raise HeaderError(f"more than {allowed} scans, or {MAX_SEGMENTS} segments between them")


def _after(data: bytes, start: int) -> int:
    """The position after a segment, as libjpeg determines it."""
    if data[start + 1] not in _WITH_LENGTH:
        return start + 2
    return start + 2 + max(2, int.from_bytes(data[start + 2 : start + 4], "big"))


def has_all_scans(data: bytes) -> bool:
    """Whether a JPEG's scans have all components and, where they are refined, all bits of all frequencies."""
    position, frame, left_out = 2, b"", dict[tuple[int, int], int]()  # bits, by component and frequency
    while match := _MARKER.search(data, position):
        start, position = match.start(), _after(data, match.start())
        marker, body = data[start + 1], data[start + 4 : position]
        if marker == _END:
            break
        frame = data[start:position] if marker in _FRAMES else frame
        if marker == _SCAN and frame and body:
            first, last, bits = body[1 + 2 * body[0] :].ljust(3, b"\0")[:3]
            band = range(first, min(last, 63) + 1) if frame[1] in _PROGRESSIVE else range(64)
            kept = bits & 15 if frame[1] in _PROGRESSIVE else 0
            left_out |= {(each, at): kept for each in body[1 : 1 + 2 * body[0] : 2] for at in band}
    components = frame[10::3]
    return bool(components) and all(left_out.get((each, at)) == 0 for each in components for at in range(64))
