"""The memory that decoding takes, known before it begins, and whether the process could have it.

The figures are bytes a pixel, measured by `python -m bench.decode_memory` (Pillow 13, 12 megapixels), the
decoded image of 3 bytes included: the picture as Pillow stores it, then the decoder's own tables.
"""

import numpy as np
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from models.images.formats.errors import Size

OUTPUT = 3  # RGB
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
_STORED_ELSE = 4  # RGB, RGBA, LA, CMYK
WEBP = 19  # 16.2 to 18.7: two canvases, the frame and the tables of its transforms
AVIF, AVIF_GREY = 12, 6  # 9.5 to 11.8, and 5.8
HEIF = 18  # measured: 9; more for files whose planes are not in 4:2:0
JXL = 60  # measured: 20, with the process that decodes; more for several layers, which the header hides
VIDEO = 30  # not measured: 16 reference frames of 1.5 bytes, the frame and RGB
_ANIMATED = 8  # the frame before, and what it is restored from
_COEFFICIENTS = 2  # of a progressive JPEG, for each component of a pixel


_WHEN_OPENED = {"WEBP": WEBP, "JXL": JXL}


def opening_bytes(format: str, size: Size) -> int:
    """Bytes for a picture of this size whose decoder takes memory when it is opened; 0 for other formats."""
    return _WHEN_OPENED.get(format, 0) * size[0] * size[1]


def decoding_bytes(picture: ImageFile, size: Size) -> int:
    """Bytes for an opened picture whose full size is `size`; its own is smaller if it is a draft."""
    pixels, drafted = size[0] * size[1], picture.width * picture.height
    if picture.format in _WHEN_OPENED:
        return _WHEN_OPENED[picture.format] * pixels
    if picture.format == "HEIF":
        return HEIF * pixels
    if picture.format == "AVIF":
        return pixels * (AVIF_GREY if picture.mode == "L" else AVIF)
    stored = _STORED.get(picture.mode, _STORED_ELSE) * drafted
    output = OUTPUT * drafted
    if isinstance(picture, JpegImageFile) and "progressive" in picture.info:
        return stored + max(output, _COEFFICIENTS * picture.layers * pixels)
    return stored + output + getattr(picture, "bytes_beside", 0) * pixels


def frame_bytes(picture: ImageFile) -> int:
    """Bytes for the next frame of an opened animation or document."""
    return decoding_bytes(picture, picture.size) + _ANIMATED * picture.width * picture.height


def video_bytes(size: Size) -> int:
    """Bytes for the next frame of a video."""
    return VIDEO * size[0] * size[1]


def is_available(nbytes: int) -> bool:
    """Whether the process could allocate so many bytes now. It does not touch them."""
    try:
        np.empty(max(0, nbytes), np.uint8)
    except MemoryError:
        return False
    return True
