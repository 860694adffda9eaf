"""What a caller may give as an image, and the bytes of it that are sent."""

import io
import os
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from rcnn_client.errors import Unreachable

SECONDS = 60.0  # of a pause while an image of a URL is read
AS_THEY_ARE = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # modes that PNG keeps
FROM_WIDER = ("CMYK", "YCbCr", "HSV", "LAB", "PA", "RGBX", "La", "RGBa")  # modes with an RGB form
CHANNELS = (1, 3, 4)


class BinaryFile(Protocol):
    """An open file of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """The bytes from here to the end."""
        ...


FileBytes = bytes | bytearray | memoryview
Picture = FileBytes | str | os.PathLike[str] | BinaryFile | Image.Image | npt.NDArray[Any]
"""A file's bytes, its path, an open file, an http(s) URL, a Pillow image, or pixels.

Pixels are uint8 (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA: OpenCV has BGR, so send `frame[..., ::-1]`. A
Pillow image and an array are sent as they are, without an EXIF orientation, so the boxes fit them.
"""


def content(image: Picture) -> bytes:
    """The bytes of an image file; raises OSError, Unreachable, TypeError, ValueError."""
    if isinstance(image, FileBytes):
        return bytes(image)
    if isinstance(image, np.ndarray):
        return _png(_of_pixels(image))
    if isinstance(image, Image.Image):
        return _png(image)
    if isinstance(image, str | os.PathLike):
        return _download(str(image)) if is_url(image) else Path(image).read_bytes()
    if not hasattr(image, "read"):
        raise TypeError(
            f"{type(image).__name__} is no image; give bytes, a path, an open file, an http URL, a Pillow "
            "image or a numpy array"
        )
    return _read(image)


def is_url(image: object) -> bool:
    """Whether the image is to be downloaded."""
    return isinstance(image, str) and image.lower().startswith(("http://", "https://"))


def opened(image: Picture) -> Image.Image:
    """As RGB, and as displayed: the EXIF orientation of a file is applied."""
    if isinstance(image, np.ndarray):
        return _of_pixels(image).convert("RGB")
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    with Image.open(io.BytesIO(content(image))) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def _read(file: BinaryFile) -> bytes:
    data = file.read()
    if not isinstance(data, bytes):
        raise TypeError("the file gives text, not bytes; open it with mode 'rb'")
    return data


def _download(url: str) -> bytes:
    """By this process, without the service's key; raises Unreachable."""
    try:
        response = httpx.get(url, follow_redirects=True, timeout=SECONDS)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise Unreachable(f"no image from {url}: {str(error) or type(error).__name__}") from error
    if response.is_error:
        raise Unreachable(f"no image from {url}: HTTP {response.status_code}")
    return response.content


def _of_pixels(pixels: npt.NDArray[Any]) -> Image.Image:
    grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or not (grey or (pixels.ndim == 3 and pixels.shape[2] in CHANNELS)):
        raise ValueError(
            f"an array of {pixels.dtype} {pixels.shape} is no image; pixels are uint8 (H, W), (H, W, 3) RGB "
            "or (H, W, 4) RGBA: scale floats to 0 to 255, and move a first axis of channels to the end"
        )
    if pixels.size == 0:
        raise ValueError(f"an array of {pixels.shape} has no pixel")
    return Image.fromarray(pixels[:, :, 0] if not grey and pixels.shape[2] == 1 else pixels)


def _png(image: Image.Image) -> bytes:
    """Without loss, and without metadata: an orientation would turn what the caller sees unturned."""
    if image.mode in FROM_WIDER:
        image = image.convert("RGB")
    elif image.mode not in AS_THEY_ARE:
        raise ValueError(f"a Pillow image of mode {image.mode} has no fixed range; convert it to RGB first")
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=1, exif=b"", icc_profile=None, pnginfo=None)
    return data.getvalue()
