"""Which class of Pillow reads which format, and which formats this installation has.

Classes instead of PIL.Image.open, which has a global pixel limit of its own. A multi-picture JPEG of a phone
(MPO) is read as its first picture; a camera's RAW as the JPEG in it.
"""

from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO

from PIL.AvifImagePlugin import SUPPORTED as HAS_AVIF
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import SUPPORTED as HAS_WEBP
from PIL.WebPImagePlugin import WebPImageFile

from models.images.formats import jxl
from models.images.jxl_process import open_jxl
from models.images.readers.gif_canvas import CanvasGif
from models.images.readers.png_key import KeyedPng
from models.images.readers.tiff_picture import TiffPicture

EXTRAS = {"HEIF": ("heif", "HEIC"), "JXL": ("jxl", "JPEG XL")}  # the extra, and the name that users know


class PlainJpeg(JpegImageFile):
    """Pillow's reader of JPEG without the resolution, for which it would read all of a broken EXIF."""

    def _read_dpi_from_exif(self) -> None:
        return


def _open_heif(file: BytesIO) -> ImageFile:
    """Loads the package with the first file: it takes 30 MB that others do not need."""
    import pillow_heif
    from pillow_heif import options

    # The service decodes on a thread for each core; and only the picture itself is wanted.
    options.DECODE_THREADS = 1
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    opened: ImageFile = pillow_heif.HeifImageFile(file)  # type: ignore[no-untyped-call]  # it has no types
    return opened


def _open_jxl(file: BytesIO) -> ImageFile:
    [(width, height)] = jxl.cleaned(file.getvalue())[1]
    return open_jxl(file, width * height)


OPENERS: dict[str, Callable[[BytesIO], ImageFile]] = {
    "JPEG": PlainJpeg,
    "PNG": KeyedPng,
    **({"WEBP": WebPImageFile} if HAS_WEBP else {}),
    "BMP": BmpImageFile,
    "GIF": CanvasGif,
    "TIFF": TiffPicture,
    **({"AVIF": AvifImageFile} if HAS_AVIF else {}),
    **({"HEIF": _open_heif} if find_spec("pillow_heif") else {}),
    **({"JXL": _open_jxl} if find_spec("pillow_jxl") else {}),
}
FORMATS: tuple[str, ...] = tuple(OPENERS)
