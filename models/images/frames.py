"""The frames of an animation, a document, a video or a camera, one after the other as they are asked for.

Nothing is decoded ahead. The formats of images go through Pillow by way of the decoder; a video goes
through PyAV (the extra `video`) with its container named by the first bytes and its codec by a list: the
library is never let loose to guess, for some formats that it knows are lists of other files to open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image as pillow
from PIL.ImageFile import ImageFile

from models.images.avif import HeaderError, is_avif
from models.images.decoder import (
    ImageError,
    InvalidImage,
    Limits,
    Pixels,
    check_size,
    decoder_errors,
    open_picture,
    render,
)
from models.images.headers import check_gif_pictures, tiff_pages

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# GIF and TIFF beyond this are walked no further; far above what fits into a body that the service takes.
MAX_PICTURES = 1_000_000
PADDING = 2**16  # pixels
HEAD = 512  # bytes of a file that tell its container
ANIMATED = ("GIF", "TIFF", "WEBP", "PNG")
VIDEOS = ("MP4", "QuickTime", "WebM", "Matroska", "AVI", "MPEG")
CODECS = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mjpeg", "mpeg1video", "mpeg2video")


class NoVideo(ImageError):
    """A video that this installation, or this product, does not read."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Pixels uint8 (height, width, 3) RGB as a viewer shows them; the frame's number; its time in seconds."""

    pixels: Pixels
    index: int
    seconds: float | None

    def png(self) -> bytes:
        """The pixels as a PNG file; larger than it could be, for that is quicker."""
        file = BytesIO()
        pillow.fromarray(self.pixels).save(file, "PNG", compress_level=1)
        return file.getvalue()


def read_frames(data: bytes, limits: Limits, every: int = 1) -> Iterator[Frame]:
    """Every `every`-th frame, the first among them. Raises what `images.decode` does, and NoVideo."""
    if _container(data[:HEAD]) is not None:
        return read_video(BytesIO(data), limits, every)
    return _animation(data, limits, every)


def read_video(file: BinaryIO, limits: Limits, every: int = 1) -> Iterator[Frame]:
    """Every `every`-th frame of a video alone, read from its file as they are asked for; raises as above."""
    container = _container(file.read(HEAD))
    if container is None:
        raise InvalidImage(f"is no video that can be read; allowed are {', '.join(VIDEOS)}; convert it")
    file.seek(0)
    av = _pyav()
    try:
        with av.open(file, format=container, options={"protocol_whitelist": "none"}) as opened:
            yield from _decoded(opened, limits, every)
    except av.FFmpegError as error:
        raise InvalidImage("the video is damaged or cut short; send the whole file") from error


def read_camera(number: int, limits: Limits, every: int = 1) -> Iterator[Frame]:
    """Every `every`-th frame that a camera of this machine gives, without end; raises NoVideo."""
    device, av = f"/dev/video{number}", _pyav()
    try:
        with av.open(device, format="v4l2", options={"protocol_whitelist": "file"}) as opened:
            yield from _each(opened.decode(video=0), limits, every)
    except (OSError, ValueError) as error:  # av.FFmpegError is one or the other
        if isinstance(error, ImageError):
            raise
        raise NoVideo(f"no camera answers at {device}; is it there, and free? ({error})") from error


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise NoVideo(
            "videos and cameras need PyAV here: pip install 'rcnn-serve[video]' adds it; "
            "an animated GIF, WebP or PNG and a TIFF of several pages need nothing"
        ) from error
    return av


def _container(head: bytes) -> str | None:
    """FFmpeg's name of a video's container, by its first bytes; None for what may be an image."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip") and not is_avif(head):
        return "mov"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if head.startswith(b"\0\0\1\xba"):
        return "mpeg"
    if head[:376:188] == b"GG" and not head.startswith(b"GIF8"):  # a packet begins with a G, every 188 bytes
        return "mpegts"
    return "avi" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


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
    with decoder_errors(str(picture.format)):
        try:
            picture.seek(index)
        except EOFError:
            return False
    check_size(picture.size, limits)
    return True


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
    yield from _each(opened.decode(stream), limits, every, float((stream.start_time or 0) * stream.time_base))


def _each(
    frames: "Iterator[VideoFrame]", limits: Limits, every: int, start: float | None = None
) -> Iterator[Frame]:
    """Those of the frames that are asked for, with their time since `start`, which the first one may say."""
    for index, frame in enumerate(frames):
        start = frame.time if start is None else start
        if index % every == 0:
            check_size((frame.width, frame.height), limits)
            yield Frame(_upright(frame), index, None if frame.time is None else frame.time - (start or 0.0))


def _upright(frame: "VideoFrame") -> Pixels:
    """RGB pixels, turned as the recorder asked for: `rotation` is in degrees, counterclockwise."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
