"""Pictures whose file ends too early: complete ones without an end mark, and cut ones.

A JPEG without its end mark is complete if more data would change nothing: it is decoded with other bits
behind it twice, and with none. A decoder takes the bits where data is missing, and ignores them behind the
last pixel.
"""

import zlib
from contextlib import suppress
from hashlib import sha512
from io import BytesIO

from PIL import Image as pillow
from PIL.ImageFile import ImageFile, _Tile
from PIL.JpegImagePlugin import JpegImageFile

from models.images.control import DecodeControl
from models.images.formats import jpeg
from models.images.orientation import DAMAGE

_END = b"\xff\xd9"
# No regular bits: from those, a missing block in black or white could become black or white again.
_PROBES = (*(sha512(name).digest().replace(b"\xff", b"\0") for name in (b"one", b"two")), b"")
_BAND_PIXELS = 2**17


def load(picture: ImageFile, truncated_allowed: bool, control: DecodeControl) -> bool:
    """Decode a picture, and say whether a part of it is missing. Raises what Pillow raises."""
    file, tiles = picture.fp, list(picture.tile)
    try:
        picture.load()
    except DAMAGE:
        if isinstance(picture, JpegImageFile) and isinstance(file, BytesIO):
            with suppress(*DAMAGE):
                if _load_without_end(picture, file.getvalue(), tiles, control):
                    return False
        picture.tile = []  # what there is, is there
        if truncated_allowed and picture._im is not None and picture.getbbox(alpha_only=False):
            return True
        raise
    return False


def _load_without_end(
    picture: JpegImageFile, data: bytes, tiles: list[_Tile], control: DecodeControl
) -> bool:
    """Decode a JPEG whose end mark is missing; whether all of its pixels are there."""
    data = data.rstrip(b"\xff")  # half of the mark
    seen = set[int]()
    for probe in _PROBES:
        picture.tile, picture.fp = list(tiles), BytesIO(data + probe + _END)
        picture.load()
        control.check()
        seen.add(_checksum(picture))
    return len(seen) == 1 and jpeg.has_all_scans(data)


def _checksum(picture: ImageFile) -> int:
    """A checksum of the pixels, without a copy of all of them."""
    width, height = picture.size
    rows, total = max(1, _BAND_PIXELS // width), 0
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        band = picture.resize((width, bottom - top), pillow.Resampling.NEAREST, (0, top, width, bottom))
        total = zlib.crc32(band.tobytes(), total)
    return total
