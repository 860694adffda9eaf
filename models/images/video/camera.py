"""Reads a camera frame by frame, as the frames come: an address, a device, or a file as if it were a camera.

FFmpeg may use the protocols and formats that the kind of address needs, and no others: it follows no playlist
and no redirect of HTTP, and reads no other file. One of RTSP it always follows. Its own error texts are never
passed on, as they have the address with the password in it.
"""

import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.images.control import DecodeControl
from models.images.decoder import ImageError, Limits, OutOfMemory, Pixels, UnreadableImage, check_size
from models.images.memory import OUTPUT
from models.images.video.frames import (
    CODECS,
    FFMPEG_PADDING,
    HEADER_BYTES,
    VIDEOS,
    VideoUnavailable,
    container_of,
    pyav,
    upright,
)

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

SECONDS = 10.0  # to open a source, and for the next frame; then it counts as lost
MOST_DAMAGED = 500  # packets in a row, 20 s of a camera: a stream that is joined late begins with some
LIVE_CODECS = (*CODECS, "rawvideo")  # of devices
DEVICE = re.compile(r"/dev/video\d{1,3}")

_RTSP = {"rtsp_flags": "prefer_tcp", "format_whitelist": "rtsp,sdp,rtp,mpegts"}
_HTTP = {
    "max_redirects": "0",
    "http_proxy": "",  # takes the place of the environment's
    "format_whitelist": "mpjpeg,mjpeg,mpegts,mov,matroska,webm,flv",
}
_OPTIONS: dict[str, dict[str, str]] = {
    "rtsp": _RTSP | {"protocol_whitelist": "rtsp,rtp,tcp,udp"},
    "rtsps": _RTSP | {"protocol_whitelist": "rtsp,rtp,tcp,tls"},
    "http": _HTTP | {"protocol_whitelist": "http,tcp"},
    "https": _HTTP | {"protocol_whitelist": "https,tls,tcp"},
}
SCHEMES = tuple(_OPTIONS)


class SourceLost(ImageError):
    """The source does not answer, refuses, or has ended; it may answer later."""


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """A frame as the decoder has it; `due`: seconds since the first one at which a file shows it."""

    picture: "VideoFrame"
    due: float | None = None

    def pixels(self, control: DecodeControl) -> Pixels:
        """Its pixels (height, width, 3), RGB, upright."""
        control.reserve(2 * OUTPUT * self.picture.width * self.picture.height)
        return upright(self.picture)


def read_live(address: str, limits: Limits) -> Generator[LiveFrame, None, None]:
    """The frames of an address of SCHEMES, a device or the path of a video file; ends where the source does.

    Raises SourceLost, VideoUnavailable, UnreadableImage, OversizedImage or OutOfMemory.
    """
    av = pyav()
    try:
        with _opened(av, address) as opened:
            yield from _live_frames(av, opened, limits, timed=address.startswith("/"))
    except MemoryError:  # av.MemoryError is both
        raise OutOfMemory("there is too little memory for the stream now") from None
    except av.FFmpegError as error:
        raise SourceLost(_reason(av, error)) from None  # its text has the address with the password
    except OSError as error:
        raise SourceLost(f"it cannot be opened: {error.strerror}") from None


@contextmanager
def _opened(av: Any, address: str) -> Iterator[Any]:
    if not address.startswith("/"):
        scheme = address.partition("://")[0]
        silence = SECONDS / 2 if scheme.startswith("rtsp") else SECONDS  # FFmpeg's RTSP waits twice
        with av.open(address, options=_OPTIONS[scheme], timeout=(SECONDS, silence)) as opened:
            yield opened
    elif DEVICE.fullmatch(address):
        with av.open(address, format="v4l2", options={"protocol_whitelist": "file"}) as opened:
            yield opened
    else:
        if not os.path.isfile(address):  # a pipe would block for ever
            raise SourceLost("there is no such file")
        with Path(address).open("rb") as file:
            if (container := container_of(file.read(HEADER_BYTES))) is None:
                raise UnreadableImage(f"the file is no video; allowed are {', '.join(VIDEOS)}")
            file.seek(0)
            with av.open(file, format=container, options={"protocol_whitelist": "none"}) as opened:
                yield opened


def _live_frames(av: Any, opened: Any, limits: Limits, timed: bool) -> Iterator[LiveFrame]:
    stream = next(iter(opened.streams.video), None)
    if stream is None or stream.codec_context is None:
        raise UnreadableImage("the source has no video")
    context = stream.codec_context
    codec = context.codec.canonical_name
    if codec not in LIVE_CODECS:
        raise VideoUnavailable(
            f"the video codec {codec} is not supported; allowed are {', '.join(LIVE_CODECS)}"
        )
    check_size((context.width, context.height), limits)
    context.thread_count = 1  # more threads hold frames back
    context.options = {"max_pixels": str(2 * limits.max_pixels + FFMPEG_PADDING)}
    start: float | None = None
    for picture in _decoded(av, opened.demux(stream)):
        check_size((picture.width, picture.height), limits)
        start = picture.time if start is None else start
        due = picture.time - (start or 0.0) if timed and picture.time is not None else None
        yield LiveFrame(picture, due)


def _decoded(av: Any, packets: Iterator[Any]) -> Iterator["VideoFrame"]:
    """The frames of the packets; damaged packets are left out, up to MOST_DAMAGED in a row."""
    damaged = 0
    for packet in packets:
        try:
            pictures = packet.decode()
        except av.InvalidDataError:
            damaged += 1
            if damaged >= MOST_DAMAGED:
                raise SourceLost("its frames cannot be decoded") from None
            continue
        for picture in pictures:
            damaged = 0
            yield picture


def _reason(av: Any, error: Any) -> str:
    if isinstance(error, av.ExitError):  # by the time limit
        return f"no answer within {SECONDS:.0f} s"
    text = str(error.strerror or "unknown error")
    return text[:1].lower() + text[1:]
