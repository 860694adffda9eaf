"""The one decoder of images for serving, training and evaluation: bytes in, RGB pixels or a reason out.

Nothing is believed before it is checked: the format by its first bytes against an allow-list, structure and
sizes by the header (models/image_headers.py), and only then are pixels decoded. What comes out is what a
viewer shows: the first picture of several, EXIF orientation applied, transparency on white, 16 bits scaled to
8. Colour profiles are ignored, as they are in the data that detectors are trained on.
"""

import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, ImageChops
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

Pixels = npt.NDArray[np.uint8]
DecodeJpeg = Callable[[bytes], Pixels | None]

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
    OSError, SyntaxError, ValueError, TypeError, AssertionError, LookupError, ArithmeticError, RuntimeError,
    EOFError, struct.error, zlib.error,
)  # fmt: skip
_BAND_PIXELS = 2**17  # converted at a time: small enough for the cache, which makes it three times as fast
_LAYERS = 8  # more than a decoder ever paints a picture: a pass for each of up to six planes
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


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded image as a viewer shows it: pixels uint8 (height, width, 3) RGB, C-contiguous; its format."""

    pixels: Pixels
    format: str

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(f"pixels are {self.pixels.dtype} {shape}; they must be uint8 (height, width, 3)")
        if not self.pixels.flags.c_contiguous:
            raise ValueError("pixels are not C-contiguous; pass numpy.ascontiguousarray(pixels)")

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])


def decode(data: bytes, limits: Limits, jpeg: DecodeJpeg | None = None) -> Image:
    """Decode an encoded image. Raises InvalidImage or ImageTooLarge, each with a text for the sender.

    `jpeg` is asked for the pixels, as stored, of an ordinary JPEG; where it gives None, Pillow decodes.
    """
    _hush_pillow()
    header = _read_header(data)
    for size in header.sizes:
        _check_size(size, limits)
    with _blaming_the_data(header.format):
        picture = _OPENERS[header.format](BytesIO(without_exif(data) if header.format == "AVIF" else data))
    _check_size(picture.size, limits)
    _check_tiles(picture)
    with _blaming_the_data(header.format):
        pixels = _pixels(picture, jpeg(data) if jpeg and _is_ordinary_jpeg(picture) else None)
    return Image(pixels, header.format)


def read(source: bytes | Pixels, limits: Limits, jpeg: DecodeJpeg | None = None) -> Image:
    """An image from what it comes as: a file, or pixels. Raises InvalidImage or ImageTooLarge."""
    return decode(source, limits, jpeg) if isinstance(source, bytes) else of_pixels(source, limits)


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


def _is_ordinary_jpeg(picture: ImageFile) -> bool:
    """Whether it is a JPEG that every decoder takes for YCbCr: by its components, and by Adobe's marker."""
    if not isinstance(picture, JpegImageFile) or picture.info.get("adobe_transform", 1) != 1:
        return False
    return [layer[0] for layer in picture.layer] == [1, 2, 3]


def _pixels(picture: ImageFile, decoded: Pixels | None) -> Pixels:
    """Convert a picture band by band, each written to where the orientation shows it; or what is decoded."""
    if decoded is None:
        picture.load()
    width, height = picture.size
    shown, stored = _oriented(width, height, _orientation(picture))
    if decoded is not None:
        stored[:] = decoded
        return shown
    convert = _converter(picture)
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
    rows = -1 if orientation in (3, 4, 6, 7) else 1
    columns = -1 if orientation in (2, 3, 7, 8) else 1
    return shown, stored[::rows, ::columns]


def _converter(picture: ImageFile) -> Callable[[pillow.Image], npt.NDArray[Any]]:
    """How to turn a band of this picture into RGB."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        black, white = _levels(picture)
        return partial(_from_levels, black=black, white=white, transparent=picture.info.get("transparency"))
    if isinstance(transparent := picture.info.get("transparency"), tuple) and max(transparent) > 255:
        picture.info["transparency"] = tuple(value >> 8 for value in transparent)  # of 16-bit samples, now 8
    if picture.has_transparency_data:
        return _on_white
    if picture.mode == "CMYK" and picture.format == "JPEG" and "adobe" not in picture.info:
        return _from_plain_cmyk
    return _to_rgb


def _to_rgb(band: pillow.Image) -> npt.NDArray[Any]:
    return np.asarray(band if band.mode == "RGB" else band.convert("RGB"))


def _from_plain_cmyk(band: pillow.Image) -> npt.NDArray[Any]:
    """Undo the inversion that Pillow takes for granted in JPEG, though only Adobe's programs invert."""
    return _to_rgb(ImageChops.invert(band))


def _on_white(band: pillow.Image) -> npt.NDArray[Any]:
    """Lay a band with transparency on white, as a page shows it: no hidden colour comes through."""
    colours = (band.convert("LA") if band.mode == "La" else band).convert("RGBA")
    page = pillow.new("RGB", band.size, "white")
    page.paste(colours, mask=colours)
    return np.asarray(page)


def _levels(picture: ImageFile) -> tuple[float, float]:
    """The values of black and white: the full range of up to 16 bits, beyond them the picture's extremes."""
    tags = getattr(picture, "tag_v2", {})
    if picture.mode in ("I", "F"):
        values = np.asarray(picture)
        finite = values[np.isfinite(values)]
        black, white = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    else:
        bits = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
        black, white = 0.0, float(2**bits - 1)
    white_is_least = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    return (white, black) if white_is_least else (black, white)


def _from_levels(band: pillow.Image, black: float, white: float, transparent: object) -> npt.NDArray[Any]:
    """Scale wide grey values linearly to 0..255; what is not a number is black, what is transparent white."""
    values = np.asarray(band)
    scale = 255.0 / (white - black) if white != black else 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        grey = np.nan_to_num((values.astype(np.float64) - black) * scale, nan=0.0, posinf=255.0, neginf=0.0)
    grey = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return np.broadcast_to(grey[:, :, None], (*grey.shape, 3))
