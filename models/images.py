"""The one decoder of images for serving, training and evaluation: bytes in, RGB pixels or a reason out.

Nothing is believed before it is checked: the format by its first bytes against an allow-list, structure and
sizes by the header (models/image_headers.py), and only then are pixels decoded. What comes out is what a
viewer shows: the first picture of several, EXIF orientation applied, transparency on white, 16 bits scaled to
8. Colour profiles are ignored, as they are in the data that detectors are trained on. A JPEG much larger than
the canvas it is for may be decoded as a draft, at a half, a quarter or an eighth of its size.
"""

import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from threading import Lock

import numpy as np
import numpy.typing as npt
from PIL import ExifTags
from PIL import Image as pillow
from PIL.AvifImagePlugin import SUPPORTED as HAS_AVIF
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import SUPPORTED as HAS_WEBP
from PIL.WebPImagePlugin import WebPImageFile

from models.avif_headers import HeaderError, Size, without_exif
from models.image_headers import Header, read_header
from models.picture_modes import converter

Pixels = npt.NDArray[np.uint8]

MAX_SIDE = 65_535  # what JPEG and GIF can hold; from 1 pixel to this any shape is an image

# The classes themselves and not PIL.Image.open, which warns and refuses by a global pixel count of its own. A
# phone's multi-picture JPEG (MPO) is read as its first picture.
_OPENERS: dict[str, Callable[[BytesIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    **({"WEBP": WebPImageFile} if HAS_WEBP else {}),
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
    **({"AVIF": AvifImageFile} if HAS_AVIF else {}),
}
FORMATS: tuple[str, ...] = tuple(_OPENERS)

# What Pillow raises on damaged data, found by changing the bytes of valid files at random.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AssertionError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
)
_BAND_PIXELS = 2**17  # converted at a time: small enough for the cache, which makes it three times as fast
_LAYERS = 8  # more than a decoder ever paints a picture: a pass for each of up to six planes
_DRAFT_SCALES = (8, 4, 2)  # what libjpeg scales by while it decodes, at a fraction of the work
DRAFT_MARGIN = 2.0  # a draft is at least so many times its canvas; see bench/draft.py for what it does to AP
_ADVICE = "send the whole file, or save it again as an ordinary JPEG or PNG"
_HUSH = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_hush_lock = Lock()


class ImageError(ValueError):
    """An image that cannot be used; the text may be shown to whoever sent it."""


class InvalidImage(ImageError):
    """Not an image of an allowed format, or a damaged one."""


class ImageTooLarge(ImageError):
    """An image with more pixels than the limits allow."""


@dataclass(frozen=True)
class Limits:
    """What an image may cost: max_pixels, width times height, at least 1."""

    max_pixels: int

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is {self.max_pixels}; it must be at least 1")


@dataclass(frozen=True)
class Draft:
    """How a draft's pixels lie on the image of (height, width) px: each is `scale` x `scale` of its pixels.

    The first begins at (top, left), which is negative where the image does not fill its first row or column.
    """

    height: int
    width: int
    scale: int
    top: int
    left: int


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded image as a viewer shows it: pixels uint8 (H, W, 3) RGB, C-contiguous; its format.

    Of a draft the pixels are fewer than `height` and `width` say, which are always those of the image.
    """

    pixels: Pixels
    format: str
    draft: Draft | None = None

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(f"pixels are {self.pixels.dtype} {shape}; they must be uint8 (height, width, 3)")
        if not self.pixels.flags.c_contiguous:
            raise ValueError("pixels are not C-contiguous; pass numpy.ascontiguousarray(pixels)")

    @property
    def width(self) -> int:
        return self.draft.width if self.draft else int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return self.draft.height if self.draft else int(self.pixels.shape[0])


def decode(data: bytes, limits: Limits, canvas_limits: tuple[int, int] | None = None) -> Image:
    """Decode an encoded image. Raises InvalidImage or ImageTooLarge, each with a text for the sender.

    `canvas_limits` are those of the canvas that the pixels are for (short side, long side, px): a JPEG much
    larger than it comes as a draft. None: all pixels, for drawing, for training, for looking at parts.
    """
    _hush_pillow()
    header = _read_header(data)
    for size in header.sizes:
        _check_size(size, limits)
    with _blaming_the_data(header.format):
        picture = _OPENERS[header.format](BytesIO(without_exif(data) if header.format == "AVIF" else data))
    size = picture.size
    _check_size(size, limits)
    with _blaming_the_data(header.format):
        scale = _begin_draft(picture, canvas_limits) if canvas_limits else 1
    _check_tiles(picture)
    with _blaming_the_data(header.format):
        picture.load()
        orientation = _orientation(picture)
        pixels = _pixels(picture, orientation)
    return Image(pixels, header.format, _draft(size, picture.size, scale, orientation))


def read(source: bytes | Pixels, limits: Limits, canvas_limits: tuple[int, int] | None = None) -> Image:
    """An image from what it comes as: a file, or pixels. Raises InvalidImage or ImageTooLarge."""
    if isinstance(source, bytes):
        return decode(source, limits, canvas_limits)
    return of_pixels(source, limits)


def of_pixels(pixels: Pixels, limits: Limits) -> Image:
    """An image of uint8 RGB pixels (height, width, 3), copied. Raises InvalidImage or ImageTooLarge."""
    height, width = pixels.shape[:2]
    if 0 in (height, width):
        raise InvalidImage(f"the image has {width} x {height} pixels; send at least one")
    _check_size((width, height), limits)
    return Image(pixels.copy(), "RGB")  # writable, and free of the request that it came in


def _read_header(data: bytes) -> Header:
    allowed = f"{', '.join(FORMATS[:-1])} and {FORMATS[-1]}"
    if not data:
        raise InvalidImage(f"the image is empty (0 bytes); send the content of a file; allowed are {allowed}")
    try:
        header = read_header(data)
    except HeaderError as exc:
        raise InvalidImage(f"the image has {exc}; {_ADVICE}") from exc
    if header is None or header.format not in FORMATS:
        raise InvalidImage(f"the data is not an image of a known format; allowed are {allowed}; convert it")
    return header


@contextmanager
def _blaming_the_data(format: str) -> Iterator[None]:
    """Turn what Pillow raises into an ImageError that shows nothing of Pillow."""
    try:
        yield
    except (MemoryError, pillow.DecompressionBombError) as exc:
        raise ImageTooLarge(
            f"the {format} image asks for more memory than it may have; scale it down"
        ) from exc
    except _DAMAGE as exc:
        raise InvalidImage(
            f"the {format} image is damaged, cut short, or of a kind that is not supported; {_ADVICE}"
        ) from exc


def _check_size(size: Size, limits: Limits) -> None:
    width, height = size
    if max(size) > MAX_SIDE:
        raise ImageTooLarge(
            f"the image has {width} x {height} pixels; a side may have at most {MAX_SIDE}; scale it down"
        )
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"the image has {width} x {height} = {width * height} pixels; "
            f"at most {limits.max_pixels} are allowed; scale it down"
        )


def _check_tiles(picture: ImageFile) -> None:
    """Refuse a file that has its decoder paint the same pixels over and over (TIFF strips without end)."""
    painted = sum((box[2] - box[0]) * (box[3] - box[1]) for _, box, *_ in picture.tile if box)
    if painted > _LAYERS * picture.width * picture.height:
        raise InvalidImage(f"the image has strips or tiles that overlap; {_ADVICE}")


def _hush_pillow() -> None:
    """Ignore Pillow's warnings of odd metadata, for good: ignoring them for a while is not thread-safe."""
    if _HUSH not in warnings.filters:
        with _hush_lock:
            warnings.filterwarnings("ignore", module=r"PIL\.")


def _begin_draft(picture: ImageFile, canvas_limits: tuple[int, int]) -> int:
    """Have a JPEG much larger than its canvas decoded smaller; by how much: 1 where it is not."""
    reduction = max(side / most for side, most in zip(sorted(picture.size), canvas_limits, strict=True))
    wanted = next((scale for scale in _DRAFT_SCALES if scale * DRAFT_MARGIN <= reduction), 1)
    if wanted == 1 or not isinstance(picture, JpegImageFile):
        return 1
    width, height = picture.size
    # Pillow takes the size as a lower bound, so a side shorter than the scale may make the scale smaller.
    begun = picture.draft(None, (max(1, width // wanted), max(1, height // wanted)))
    return round(width / begun[1][2]) if begun else 1


def _draft(size: Size, drafted: Size, scale: int, orientation: int) -> Draft | None:
    """Where the draft's pixels lie once the image is upright; `size` and `drafted` (width, height) as stored.

    The last pixels reach over the edge where the scale does not divide the side; a flip makes them the first.
    """
    if scale == 1:
        return None
    over = (size[1] - scale * drafted[1], size[0] - scale * drafted[0])
    top, left = (least if flip < 0 else 0 for least, flip in zip(over, _flips(orientation), strict=True))
    if orientation >= 5:
        return Draft(size[0], size[1], scale, left, top)
    return Draft(size[1], size[0], scale, top, left)


def _pixels(picture: ImageFile, orientation: int) -> Pixels:
    """Convert a loaded picture band by band, each written to where the orientation shows it."""
    width, height = picture.size
    shown, stored = _oriented(width, height, orientation)
    convert = converter(picture)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        # Not crop(), which refuses by Pillow's global pixel count; unscaled, this is one.
        band = picture.resize((width, bottom - top), pillow.Resampling.NEAREST, (0, top, width, bottom))
        stored[top:bottom] = convert(band)
    return shown


def _orientation(picture: ImageFile) -> int:
    """The EXIF orientation, 1 where it is missing or broken. A TIFF has its own applied while it loads."""
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _oriented(width: int, height: int, orientation: int) -> tuple[Pixels, Pixels]:
    """Room for the pixels as shown, and a view of the same memory in the order in which they are stored."""
    shown = np.empty((width, height, 3) if orientation >= 5 else (height, width, 3), np.uint8)
    stored = shown.transpose(1, 0, 2) if orientation >= 5 else shown
    rows, columns = _flips(orientation)
    return shown, stored[::rows, ::columns]


def _flips(orientation: int) -> tuple[int, int]:
    """-1 where the orientation turns the stored rows, and the stored columns, the other way round; else 1."""
    return -1 if orientation in (3, 4, 6, 7) else 1, -1 if orientation in (2, 3, 7, 8) else 1
