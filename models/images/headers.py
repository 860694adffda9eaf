"""Reads and bounds an image's header and structure before a decoder sees the file.

A few bytes can make a decoder take gigabytes or hours: a thousand empty scans in a JPEG, a million comments,
tiles larger than the picture. The rooms' modules by format read only a file's structure, drop what a decoder
would skip slowly (fill, comments, profiles), bound the rest (far above what real encoders write), and return
the sizes that a decoder would allocate. The worst file of 20 MB takes less than a second of CPU beside the
decoding of its pixels; tests/models/images/test_cost.py has a file of each unit of each format's grammar.
"""

from collections.abc import Callable
from dataclasses import dataclass

from models.images.formats import avif, gif, jpeg, png, tiff
from models.images.formats.errors import HeaderError, Size

# A BMP's runs are decoded in Python, 0.3 µs each, and its empty pixels one at a time. Such files are rare.
MAX_RLE_BYTES = 2_000_000
MAX_RLE_PIXELS = 8_000_000

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
)


@dataclass(frozen=True)
class Header:
    """The format of an image, and the sizes in pixels that its decoder allocates beside the picture.

    `data` is the file for the decoder: without what it would only skip.
    """

    format: str
    data: bytes
    sizes: tuple[Size, ...] = ()


def read_header(data: bytes, frames: int = 1) -> Header | None:
    """An image's header, None if the format is unknown. Raises HeaderError for an excessive structure.

    `frames`: how many frames of an animation will be decoded.
    """
    name = _format_of(data)
    if name is None:
        return None
    return Header(name, *(gif.cleaned(data, frames) if name == "GIF" else _CLEANED[name](data)))


def _format_of(data: bytes) -> str | None:
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return "AVIF" if avif.is_avif(data) else None


def _check_webp(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """The size of the canvas, which the decoder allocates twice when it opens the file."""
    kind, body = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        size = (int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1)
    elif kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    else:
        size = (int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF)
    return data, (size,)


def _check_bmp(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """Bound the data and pixels of a file in runs of pixels."""
    head, compression = int.from_bytes(data[14:18], "little"), int.from_bytes(data[30:34], "little")
    if head >= 40 and compression in (1, 2):  # in runs of 8 or of 4 bits a pixel
        width, height = (abs(int.from_bytes(data[at : at + 4], "little", signed=True)) for at in (18, 22))
        start = int.from_bytes(data[10:14], "little")
        if len(data) - start > MAX_RLE_BYTES or width * height > MAX_RLE_PIXELS:
            raise HeaderError(f"more than {MAX_RLE_BYTES} bytes or {MAX_RLE_PIXELS} pixels in runs (RLE)")
    return data, ()


_CLEANED: dict[str, Callable[[bytes], tuple[bytes, tuple[Size, ...]]]] = {
    "JPEG": jpeg.cleaned,
    "PNG": png.cleaned,
    "BMP": _check_bmp,
    "WEBP": _check_webp,
    "TIFF": tiff.cleaned,
    "AVIF": avif.cleaned,
}
