"""Frames of videos and cameras, as image files, which is what whoever detects takes. Needs PyAV."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import av

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv")

# Some formats are lists of other places to look at: none of them may be on the network.
FILES_ALONE = {"protocol_whitelist": "file"}


class FramesError(Exception):
    """A video or camera that cannot be read, or not to its end; the text says why."""


@dataclass(frozen=True)
class Frame:
    """One frame upright: its number from 0, its time in seconds from the start, its pixels as PNG."""

    number: int
    seconds: float
    png: bytes


def read_video(path: str, every: int) -> Iterator[Frame]:
    """Each `every`-th frame of a video file; raises FramesError."""
    return _read(path, None, every, "is no video that can be read, or is damaged")


def read_camera(number: int, every: int) -> Iterator[Frame]:
    """Each `every`-th frame that a camera of this machine gives, without end; raises FramesError."""
    device = f"/dev/video{number}"
    return _read(device, "v4l2", every, f"no camera answers at {device}; is it there, and free?")


def _read(place: str, format: str | None, every: int, fault: str) -> Iterator[Frame]:
    try:
        import av
    except ImportError as error:
        raise FramesError("videos and cameras need PyAV: pip install 'rcnn-serve[video]'") from error
    try:
        with av.open(place, format=format, options=FILES_ALONE) as container:
            if not container.streams.video:
                raise FramesError("there are no pictures in it; name a video")
            for number, frame in enumerate(container.decode(video=0)):
                if number % every == 0:
                    yield Frame(number, round(frame.time or 0.0, 3), _png(frame))
    except (OSError, ValueError) as error:  # av.FFmpegError is one or the other
        raise FramesError(f"{fault} ({error})") from error


def _png(frame: "av.VideoFrame") -> bytes:
    """The frame as displayed, as a PNG that is quick to make."""
    import av

    shown = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    upright = av.VideoFrame.from_ndarray(np.ascontiguousarray(shown, np.uint8), format="rgb24")
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = upright.width, upright.height, "rgb24"
    encoder.time_base = Fraction(1, 1)
    encoder.options = {"compression_level": "1"}
    packets = [*encoder.encode(upright), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
