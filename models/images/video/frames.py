"""Iterates over the frames of an animation, a document, a video or a camera, decoding each on demand.

Image formats are decoded by the image decoder. Videos are decoded by PyAV (the extra `video`); the container
is determined by the first bytes and the codec must be in a list. FFmpeg never guesses the format, as some of
its formats are lists of other files to open.
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

from models.images.control import UNCONTROLLED, DecodeControl
from models.images.decoder import (
    ImageError,
    Limits,
    OutOfMemory,
    Pixels,
    UnreadableImage,
    check_header,
    check_size,
    decoder_errors,
    open_picture,
    render,
)
from models.images.formats.errors import HeaderError
from models.images.formats.gif import ALL_FRAMES
from models.images.formats.tiff import pages as tiff_pages
from models.images.headers import is_still
from models.images.memory import frame_bytes, video_bytes

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

FFMPEG_PADDING = 2**16  # pixels
HEADER_BYTES = 512  # enough to determine a container
ANIMATED = ("GIF", "TIFF", "WEBP", "PNG")
VIDEOS = ("MP4", "QuickTime", "WebM", "Matroska", "AVI", "MPEG")
CODECS = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mjpeg", "mpeg1video", "mpeg2video")


class VideoUnavailable(ImageError):
    """A video or camera that this installation or this product cannot read."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Pixels uint8 (height, width, 3) RGB as a viewer shows them; the frame's number and time in seconds."""

    pixels: Pixels
    index: int
    seconds: float | None

    def png(self) -> bytes:
        """The pixels as a PNG file, compressed for speed rather than size."""
        file = BytesIO()
        pillow.fromarray(self.pixels).save(file, "PNG", compress_level=1)
        return file.getvalue()


def read_frames(data: bytes, limits: Limits, every: int = 1) -> Iterator[Frame]:
    """Every `every`-th frame, starting with the first. Raises ImageError, such as VideoUnavailable."""
    return _without_skipped(frame_steps(data, limits, every))


def frame_steps(
    data: bytes, limits: Limits, every: int = 1, control: DecodeControl = UNCONTROLLED
) -> Iterator[Frame | None]:
    """As `read_frames`, one picture a step: None for one that is skipped, so that a reader can stop there."""
    if container_of(data[:HEADER_BYTES]) is not None:
        return _video_steps(BytesIO(data), limits, every, control)
    return _animation(data, limits, every, control)


def read_video(file: BinaryIO, limits: Limits, every: int = 1) -> Iterator[Frame]:
    """Every `every`-th frame of a video file, read on demand. Raises as `read_frames` does."""
    return _without_skipped(_video_steps(file, limits, every, UNCONTROLLED))


def _without_skipped(steps: Iterator[Frame | None]) -> Iterator[Frame]:
    return (frame for frame in steps if frame is not None)


def _video_steps(
    file: BinaryIO, limits: Limits, every: int, control: DecodeControl
) -> Iterator[Frame | None]:
    container = container_of(file.read(HEADER_BYTES))
    if container is None:
        raise UnreadableImage(
            f"not a video of an allowed format; allowed are {', '.join(VIDEOS)}; convert it"
        )
    file.seek(0)
    av = pyav()
    try:
        with av.open(file, format=container, options={"protocol_whitelist": "none"}) as opened:
            yield from _video_frames(opened, limits, every, control)
    except MemoryError as error:  # av.MemoryError is both
        raise OutOfMemory("there is too little memory for the video now") from error
    except av.FFmpegError as error:
        raise UnreadableImage("the video is damaged or cut short; send the whole file") from error


def read_camera(number: int, limits: Limits, every: int = 1) -> Iterator[Frame]:
    """Every `every`-th frame of a camera of this machine, without end. Raises VideoUnavailable."""
    device, av = f"/dev/video{number}", pyav()
    try:
        with av.open(device, format="v4l2", options={"protocol_whitelist": "file"}) as opened:
            yield from _without_skipped(_sampled(opened.decode(video=0), limits, every))
    except (OSError, ValueError) as error:  # av.FFmpegError is one or the other
        if isinstance(error, ImageError):
            raise
        raise VideoUnavailable(
            f"the camera {device} cannot be opened; check that it exists and no program uses it ({error})"
        ) from error


def pyav() -> ModuleType:
    """PyAV; raises VideoUnavailable where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise VideoUnavailable(
            "videos and cameras need PyAV: pip install 'rcnn-serve[video]'; "
            "animated GIF, WebP and PNG files and multi-page TIFF files work without it"
        ) from error
    return av


def container_of(head: bytes) -> str | None:
    """FFmpeg's name of a video's container, by its first bytes; None if the file may be an image."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip") and not is_still(head):
        return "mov"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if head.startswith(b"\0\0\1\xba"):
        return "mpeg"
    if head[:376:188] == b"GG" and not head.startswith(b"GIF8"):  # a packet begins with a G, every 188 bytes
        return "mpegts"
    return "avi" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


def _animation(data: bytes, limits: Limits, every: int, control: DecodeControl) -> Iterator[Frame | None]:
    """The frames of an image file; sizes and tags of each are checked before it is decoded."""
    header = check_header(data, limits, ALL_FRAMES)
    picture = open_picture(header, limits, control)
    pages = tiff_pages(header.data) if picture.format == "TIFF" else None
    shown_at = 0.0
    for index in count():
        control.reserve(frame_bytes(picture))
        if not _seek(picture, index, pages, limits):
            return
        if index % every == 0:
            pixels = render(picture, limits, control=control).pixels
            timed = "duration" in picture.info
            # WebP's own timestamp includes the frames that were not decoded
            yield Frame(pixels, index, picture.info.get("timestamp", shown_at) / 1000 if timed else None)
        else:
            yield None
        shown_at += picture.info.get("duration", 0)  # milliseconds


def _seek(picture: ImageFile, index: int, pages: Iterator[Any] | None, limits: Limits) -> bool:
    """Seek the next frame, False after the last. Never skips one: Pillow would decode it unchecked."""
    if index and picture.format not in ANIMATED:
        return False
    try:
        for size in next(pages, ()) if pages is not None else ():
            check_size(size, limits)
    except HeaderError as error:
        raise UnreadableImage(f"page {index + 1} has {error}; save the document again") from error
    with decoder_errors(str(picture.format), frame_bytes(picture)):
        try:
            picture.seek(index)
        except EOFError:
            return False
    check_size(picture.size, limits)
    return True


def _video_frames(opened: Any, limits: Limits, every: int, control: DecodeControl) -> Iterator[Frame | None]:
    stream = next(iter(opened.streams.video), None)
    if stream is None or stream.codec_context is None:
        raise UnreadableImage("the file has no video stream")
    context = stream.codec_context
    codec = context.codec.canonical_name
    if codec not in CODECS:
        raise VideoUnavailable(f"the video codec {codec} is not supported; allowed are {', '.join(CODECS)}")
    check_size((context.width, context.height), limits)
    context.thread_count = 1  # the service already has a decoding thread for each core
    # The size may change within a video. FFmpeg counts its padding too; each frame is checked exactly below.
    context.options = {"max_pixels": str(2 * limits.max_pixels + FFMPEG_PADDING)}
    control.reserve(video_bytes((context.width, context.height)))
    start = float((stream.start_time or 0) * stream.time_base)
    for frame in _sampled(opened.decode(stream), limits, every, start):
        yield frame
        control.reserve(video_bytes((context.width, context.height)))


def _sampled(
    frames: "Iterator[VideoFrame]", limits: Limits, every: int, start: float | None = None
) -> Iterator[Frame | None]:
    """Every `every`-th of the frames, with its time since `start` (None: since the first frame)."""
    for index, frame in enumerate(frames):
        start = frame.time if start is None else start
        if index % every == 0:
            check_size((frame.width, frame.height), limits)
            yield Frame(upright(frame), index, None if frame.time is None else frame.time - (start or 0.0))
        else:
            yield None


def upright(frame: "VideoFrame") -> Pixels:
    """RGB pixels with the frame's `rotation` applied (degrees, counterclockwise)."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
