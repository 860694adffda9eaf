"""The image decoder of serving, training and evaluation: bytes to RGB pixels, or an error with its reason.

It checks the format (by the first bytes, against an allow-list), then structure and sizes (by the header,
models/images/headers.py), and only then decodes pixels. The result is what a viewer shows: the first picture
of several, EXIF orientation applied, transparency on white, 16 bits scaled to 8. Colour profiles are ignored,
as in the data that detectors are trained on. A JPEG much larger than its canvas may be decoded as a draft, at
a half, a quarter or an eighth of its size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow
from PIL.ImageFile import ImageFile

from models.images.color import converter
from models.images.control import UNCONTROLLED, DecodeControl
from models.images.formats.errors import HeaderError, Size
from models.images.headers import Header, read_header
from models.images.incomplete import load
from models.images.jpeg_draft import CanvasLimits, Draft, begin_draft, draft_of
from models.images.memory import decoding_bytes, is_available, opening_bytes
from models.images.mistakes import explained
from models.images.openers import EXTRAS, FORMATS, OPENERS
from models.images.orientation import DAMAGE, forget_xmp, orientation_of, oriented
from models.images.pillow_warnings import silence_libtiff, silence_pillow_warnings

Pixels = npt.NDArray[np.uint8]

MAX_SIDE = 65_535  # the limit of JPEG and GIF; any shape from 1 pixel up to this is accepted

_BAND_PIXELS = 2**17  # converted at a time: a band fits into the cache, which is three times as fast
_MAX_REPAINTS = 8  # a valid file paints each pixel at most six times: one pass for each plane
_ADVICE = "send the whole file, or save it again as an ordinary JPEG or PNG"


class ImageError(ValueError):
    """An image that cannot be used; the text may be shown to the client."""


class UnreadableImage(ImageError):
    """The data is damaged, or not an image of an allowed format."""


class OversizedImage(ImageError):
    """The image has more pixels than the limits allow."""


class OutOfMemory(ImageError):
    """The process has too little memory for the image now. The image may be fine."""


@dataclass(frozen=True)
class Limits:
    """Limits of an image: `max_pixels` is width times height, at least 1.

    `truncated_allowed`: a file that is cut short or damaged is decoded as far as it goes.
    """

    max_pixels: int
    truncated_allowed: bool = False

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is {self.max_pixels}; it must be at least 1")


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded image as a viewer shows it: pixels uint8 (H, W, 3) RGB, C-contiguous, and its format.

    `height` and `width` are those of the image; a draft has fewer pixels. `truncated`: a part is missing.
    """

    pixels: Pixels
    format: str
    draft: Draft | None = None
    truncated: bool = False

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


def decode(
    data: bytes,
    limits: Limits,
    canvas_limits: CanvasLimits | None = None,
    control: DecodeControl = UNCONTROLLED,
) -> Image:
    """Decode an image file. Raises UnreadableImage, OversizedImage or OutOfMemory with a text for the client.

    `canvas_limits` (short side, long side, px) allow a draft for a JPEG much larger than that canvas; None
    decodes all pixels. `control` is asked for the memory, and whether to go on.
    """
    header = check_header(data, limits)
    return render(open_picture(header, limits, control), limits, canvas_limits, control)


def check_header(data: bytes, limits: Limits, frames: int = 1) -> Header:
    """The header of a file of which so many frames will be decoded. Raises as `decode` does."""
    silence_pillow_warnings()
    header = _read_header(data, frames)
    if header.format == "TIFF":
        silence_libtiff()
    for size in header.sizes:
        check_size(size, limits)
    return header


def open_picture(header: Header, limits: Limits, control: DecodeControl = UNCONTROLLED) -> ImageFile:
    """Open an image file and check its size, without decoding. Raises as `decode` does."""
    if needed := opening_bytes(header.format, header.sizes[0] if header.sizes else (0, 0)):
        control.reserve(needed)
    with decoder_errors(header.format, needed):
        picture = OPENERS[header.format](BytesIO(header.data))
    check_size(picture.size, limits)
    return picture


def render(
    picture: ImageFile,
    limits: Limits,
    canvas_limits: CanvasLimits | None = None,
    control: DecodeControl = UNCONTROLLED,
) -> Image:
    """Decode an opened picture's current frame. Raises as `decode` does."""
    size, format = picture.size, str(picture.format)
    check_size(size, limits)
    with decoder_errors(format):
        scale = begin_draft(picture, canvas_limits) if canvas_limits else 1
    _check_tiles(picture)
    needed = decoding_bytes(picture, size)
    control.reserve(needed)
    control.check()
    with decoder_errors(format, needed):
        forget_xmp(picture)
        truncated = load(picture, limits.truncated_allowed, control)
        orientation = orientation_of(picture)  # loading a TIFF has applied and removed it
        control.check()
        pixels = _pixels(picture, orientation, control)
    return Image(pixels, format, draft_of(size, picture.size, scale, orientation), truncated)


def read(
    source: bytes | Pixels,
    limits: Limits,
    canvas_limits: CanvasLimits | None = None,
    control: DecodeControl = UNCONTROLLED,
) -> Image:
    """An image from a file's bytes or from pixels. Raises as `decode` does."""
    if isinstance(source, bytes):
        return decode(source, limits, canvas_limits, control)
    return of_pixels(source, limits)


def of_pixels(pixels: Pixels, limits: Limits) -> Image:
    """An image of uint8 RGB pixels (height, width, 3), copied. Raises UnreadableImage or OversizedImage."""
    height, width = pixels.shape[:2]
    if 0 in (height, width):
        raise UnreadableImage(f"the image has {width} x {height} pixels; send at least one")
    check_size((width, height), limits)
    return Image(pixels.copy(), "RGB")  # writable, and independent of the request's memory


def _read_header(data: bytes, frames: int) -> Header:
    allowed = f"{', '.join(FORMATS[:-1])} and {FORMATS[-1]}"
    if not data:
        raise UnreadableImage(
            f"the image is empty (0 bytes); send the content of a file; allowed are {allowed}"
        )
    try:
        header = read_header(data, frames)
    except HeaderError as exc:
        raise UnreadableImage(f"the image has {exc}; {_ADVICE}") from exc
    if header is None:
        found = explained(data) or "the data is not an image of a known format; convert it"
        raise UnreadableImage(f"{found}; allowed are {allowed}")
    if header.format not in FORMATS:
        raise UnreadableImage(f"the image is {_missing(header.format)}")
    return header


def _missing(format: str) -> str:
    """What a format that this installation lacks needs."""
    if format not in EXTRAS:
        return f"{format}, which this installation of Pillow does not read; save it as JPEG or PNG"
    extra, name = EXTRAS[format]
    return (
        f"{name}: {name} needs the extra {extra}: pip install 'rcnn-serve[{extra}]'; "
        "or save it as JPEG or PNG"
    )


@contextmanager
def decoder_errors(format: str, needed: int = 0) -> Iterator[None]:
    """Turn Pillow's exceptions into an ImageError whose text does not mention Pillow.

    libwebp, libavif and libjpeg report want of memory as damage: a failure counts as that only where the
    `needed` bytes could be had.
    """
    try:
        yield
    except MemoryError as exc:
        raise _out_of_memory(format) from exc
    except HeaderError as exc:
        raise UnreadableImage(f"the image has {exc}; {_ADVICE}") from exc
    except pillow.DecompressionBombError as exc:
        raise OversizedImage(f"the {format} image needs more memory than it may have; scale it down") from exc
    except DAMAGE as exc:
        if not is_available(needed):
            raise _out_of_memory(format) from exc
        raise UnreadableImage(
            f"the {format} image is damaged, cut short, or of a kind that is not supported; {_ADVICE}"
        ) from exc


def _out_of_memory(format: str) -> OutOfMemory:
    return OutOfMemory(f"there is too little memory for the {format} image now")


def check_size(size: Size, limits: Limits) -> None:
    """Raise OversizedImage if a size (width, height) exceeds the limits."""
    width, height = size
    if max(size) > MAX_SIDE:
        raise OversizedImage(
            f"the image has {width} x {height} pixels; a side may have at most {MAX_SIDE}; scale it down"
        )
    if width * height > limits.max_pixels:
        raise OversizedImage(
            f"the image has {width} x {height} = {width * height} pixels; "
            f"at most {limits.max_pixels} are allowed; scale it down"
        )


def _check_tiles(picture: ImageFile) -> None:
    """Reject a file whose strips or tiles overlap, so that the decoder paints the same pixels many times."""
    painted = sum((box[2] - box[0]) * (box[3] - box[1]) for _, box, *_ in picture.tile if box)
    if painted > _MAX_REPAINTS * picture.width * picture.height:
        raise UnreadableImage(f"the image has strips or tiles that overlap; {_ADVICE}")


def _pixels(picture: ImageFile, orientation: int, control: DecodeControl) -> Pixels:
    """Convert a loaded picture band by band, with the orientation applied."""
    width, height = picture.size
    shown, stored = oriented(width, height, orientation)
    convert = converter(picture)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        control.check()
        bottom = min(height, top + rows)
        # Not crop(), which applies Pillow's global pixel limit; resize without scaling does the same.
        band = picture.resize((width, bottom - top), pillow.Resampling.NEAREST, (0, top, width, bottom))
        stored[top:bottom] = convert(band)
    return shown
