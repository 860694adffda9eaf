"""Reads and bounds an image's header and structure before a decoder sees the file.

A few bytes can make a decoder take gigabytes or hours: a thousand empty scans in a JPEG, a million comments,
tiles larger than the picture. The rooms' modules by format read only a file's structure, drop what a decoder
would skip slowly (fill, comments, profiles), bound the rest (far above what real encoders write), and return
the sizes that a decoder would allocate. The worst file of 20 MB takes less than a second of CPU beside the
decoding of its pixels; tests/models/images/test_cost.py has a file of each unit of each format's grammar.
"""

from collections.abc import Callable
from dataclasses import dataclass

from models.images.formats import avif, bmp, gif, heif, jpeg, jxl, png, raw, tiff_page, webp
from models.images.formats.errors import Size
from models.images.openers import FORMATS

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

    Nothing is read of a format that this installation lacks.

    `frames`: how many frames of an animation will be decoded.
    """
    name = _format_of(data)
    if name in (None, "TIFF") and frames == 1 and raw.is_raw(data):
        name, data = "JPEG", raw.preview(data)
    if name is None:
        return None
    if name not in FORMATS:
        return Header(name, data)
    if name in _ANIMATED:
        return Header(name, *_ANIMATED[name](data, frames))
    return Header(name, *_CLEANED[name](data))


def _format_of(data: bytes) -> str | None:
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if avif.is_avif(data):
        return "AVIF"
    if heif.is_heif(data):
        return "HEIF"
    if jxl.is_jxl(data):
        return "JXL"
    return "BMP" if bmp.is_dib(data) else None


def is_still(head: bytes) -> bool:
    """Whether a file in the container of MP4 is an image, by its brands."""
    return avif.is_avif(head) or heif.is_heif(head) or raw.is_raw(head)


_CLEANED: dict[str, Callable[[bytes], tuple[bytes, tuple[Size, ...]]]] = {
    "JPEG": jpeg.cleaned,
    "BMP": bmp.cleaned,
    "WEBP": webp.cleaned,
    "TIFF": tiff_page.cleaned,
    "AVIF": avif.cleaned,
    "HEIF": heif.cleaned,
    "JXL": jxl.cleaned,
}
_ANIMATED: dict[str, Callable[[bytes, int], tuple[bytes, tuple[Size, ...]]]] = {
    "GIF": gif.cleaned,
    "PNG": png.cleaned,
}
