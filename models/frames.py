"""The frames of an animation, a document or a short video, one after the other as they are asked for.

Nothing is decoded ahead. The formats of images go through Pillow by way of models/images.py; a video goes
through PyAV (the extra `video`) with its container named by the first bytes and its codec by a list: the
library is never let loose to guess, for some formats that it knows are lists of other files to open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.ImageFile import ImageFile

from models.avif_headers import HeaderError, is_avif
from models.image_headers import check_gif_pictures, tiff_pages
from models.images import (
    ImageError,
    InvalidImage,
    Limits,
    Pixels,
    blaming_the_data,
    check_size,
    open_picture,
    render,
)

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# GIF and TIFF beyond this are walked no further; far above what fits into a body that the service takes.
MAX_PICTURES = 1_000_000
PADDING = 2**16  # pixels
ANIMATED = ("GIF", "TIFF", "WEBP", "PNG")
VIDEOS = ("MP4", "QuickTime", "WebM", "Matroska", "AVI")
CODECS = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mjpeg", "mpeg1video", "mpeg2video")


class NoVideo(ImageError):
    """A video that this installation, or this product, does not read."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Pixels uint8 (height, width, 3) RGB as a viewer shows them; the frame's number; its time in seconds."""

    pixels: Pixels
    index: int
    seconds: float | None


def read_frames(data: bytes, limits: Limits, every: int = 1) -> Iterator[Frame]:
    """Every `every`-th frame, the first among them. Raises what `images.decode` does, and NoVideo."""
    container = _container(data)
    if container is not None:
        return _video(data, container, limits, every)
    return _animation(data, limits, every)


def _container(data: bytes) -> str | None:
    """FFmpeg's name of a video's container, by its first bytes; None for what may be an image."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip") and not is_avif(data):
        return "mov"
    if data.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    return "avi" if data[:4] == b"RIFF" and data[8:12] == b"AVI " else None


def _animation(data: bytes, limits: Limits, every: int) -> Iterator[Frame]:
    """The pictures of an image file; the sizes and tags of each are checked before it is decoded."""
    picture = open_picture(data, limits)
    _check_gif(picture, data)
    pages = tiff_pages(data) if picture.format == "TIFF" else None
    shown_at = 0.0
    for index in count():
        if not _turn_to(picture, index, pages, limits):
            return
        if index % every == 0:
            pixels = render(picture, limits).pixels
            timed = "duration" in picture.info
            # WebP's own clock counts the frames that are not rendered too
            yield Frame(pixels, index, picture.info.get("timestamp", shown_at) / 1000 if timed else None)
        shown_at += picture.info.get("duration", 0)  # milliseconds


def _check_gif(picture: ImageFile, data: bytes) -> None:
    if picture.format != "GIF":
        return
    try:
        check_gif_pictures(data, MAX_PICTURES)
    except HeaderError as error:
        raise InvalidImage(f"the animation has {error}; save it again") from error


def _turn_to(picture: ImageFile, index: int, pages: Iterator[Any] | None, limits: Limits) -> bool:
    """Seek the next picture, False behind the last. Never two at once: one would be decoded unchecked."""
    if index and picture.format not in ANIMATED:
        return False
    try:
        for size in next(pages, ()) if pages is not None else ():
            check_size(size, limits)
    except HeaderError as error:
        raise InvalidImage(f"page {index + 1} has {error}; save the document again") from error
    with blaming_the_data(str(picture.format)):
        try:
            picture.seek(index)
        except EOFError:
            return False
    check_size(picture.size, limits)
    return True


def _video(data: bytes, container: str, limits: Limits, every: int) -> Iterator[Frame]:
    try:
        import av
    except ImportError as error:
        raise NoVideo(
            "this server reads no videos: pip install 'rcnn-serve[video]' adds them; "
            "an animated GIF, WebP or PNG and a TIFF of several pages need nothing"
        ) from error
    try:
        with av.open(BytesIO(data), format=container, options={"protocol_whitelist": "none"}) as opened:
            yield from _decoded(opened, limits, every)
    except av.FFmpegError as error:
        raise InvalidImage("the video is damaged or cut short; send the whole file") from error


def _decoded(opened: Any, limits: Limits, every: int) -> Iterator[Frame]:
    stream = next(iter(opened.streams.video), None)
    if stream is None or stream.codec_context is None:
        raise InvalidImage("there are no pictures in this video")
    context = stream.codec_context
    if context.codec.canonical_name not in CODECS:
        raise NoVideo(
            f"videos in {context.codec.canonical_name} are not read; allowed are {', '.join(CODECS)}"
        )
    check_size((context.width, context.height), limits)
    context.thread_count = 1  # the service has one thread for each core already
    # A size may change on the way. FFmpeg counts with its padding, and each frame is checked exactly below.
    context.options = {"max_pixels": str(2 * limits.max_pixels + PADDING)}
    for index, frame in enumerate(opened.decode(stream)):
        if index % every == 0:
            check_size((frame.width, frame.height), limits)
            yield Frame(_upright(frame), index, frame.time)


def _upright(frame: "VideoFrame") -> Pixels:
    """RGB pixels, turned as the recorder asked for: `rotation` is in degrees, counterclockwise."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
