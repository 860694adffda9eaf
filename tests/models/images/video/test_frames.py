"""Frames: each as a viewer shows it, decoded when it is asked for, bounded before it is decoded."""

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image as pillow

from models.images.decoder import Limits, OversizedImage, UnreadableImage
from models.images.video.frames import Frame, VideoUnavailable, read_frames
from tests.support.data.moving import GREYS, IDENTITY, QUARTER, animation, grey, video
from tests.support.fakes import picture

LIMITS = Limits(64 * 48)


def frames(data: bytes, every: int = 1) -> list[Frame]:
    return list(read_frames(data, LIMITS, every))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_frames_of_an_animation_or_a_document(format: str) -> None:
    found = frames(animation(format))
    assert [frame.index for frame in found] == [0, 1, 2, 3, 4]
    assert [grey(frame.pixels) for frame in found] == list(GREYS)
    assert {frame.pixels.shape for frame in found} == {(48, 64, 3)}
    assert all(frame.pixels[0, 0].max() == 0 for frame in found)
    times = [None] * 5 if format == "TIFF" else [0.0, 0.1, 0.2, 0.3, 0.4]
    assert [frame.seconds for frame in found] == (times if times[0] is None else pytest.approx(times))


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "mpeg4"),
        ("mp4", "h264"),
        ("mov", "mjpeg"),
        ("webm", "libvpx"),
        ("matroska", "h264"),
        ("avi", "mjpeg"),
        ("mpegts", "h264"),
        ("mpegts", "mpeg2video"),
        ("vob", "mpeg2video"),
    ],
)
def test_the_frames_of_a_video(container: str, codec: str) -> None:
    found = frames(video(container, codec))
    assert [frame.index for frame in found] == [0, 1, 2, 3, 4]
    assert [grey(frame.pixels) for frame in found] == list(GREYS)
    assert [frame.seconds for frame in found] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert all(frame.pixels[24, 8].max() < 12 and frame.pixels.shape == (48, 64, 3) for frame in found)


@pytest.mark.parametrize("data", [animation("GIF"), animation("WEBP"), video()])
def test_every_nth_frame(data: bytes) -> None:
    found = frames(data, every=2)
    assert [(frame.index, grey(frame.pixels)) for frame in found] == [(0, 40), (2, 140), (4, 240)]
    assert [frame.seconds for frame in found] == pytest.approx([0.0, 0.2, 0.4])


def test_a_single_image_is_one_frame() -> None:
    for format in ("JPEG", "PNG", "BMP"):
        assert len(frames(picture(64, 48, format))) == 1


def test_a_videos_rotation_is_applied() -> None:
    data = video()
    track = data.index(b"tkhd")  # the movie's own header has such a matrix too
    turned = data[:track] + data[track:].replace(IDENTITY, QUARTER, 1)
    assert turned != data
    (first, *_) = frames(turned)
    assert first.pixels.shape == (64, 48, 3)
    assert first.pixels.flags.c_contiguous
    assert first.pixels[8].max() < 12, "a quarter clockwise: the left half is on top"
    assert first.pixels[56].min() > 20


def test_frames_are_decoded_on_demand() -> None:
    data = animation("GIF")
    cut = data[: len(data) * 3 // 4]
    found = read_frames(cut, LIMITS)
    assert grey(next(found).pixels) == 40
    with pytest.raises(UnreadableImage):
        list(found)


@pytest.mark.parametrize("data", [animation("GIF"), animation("TIFF"), animation("WEBP"), video()])
def test_too_many_pixels_are_refused_before_decoding(data: bytes) -> None:
    with pytest.raises(OversizedImage, match="at most 3071 are allowed"):
        next(read_frames(data, Limits(64 * 48 - 1)))


def test_a_later_page_that_is_larger_is_refused() -> None:
    file = io.BytesIO()
    pillow.new("RGB", (64, 48)).save(file, "TIFF", save_all=True, append_images=[pillow.new("RGB", (65, 48))])
    found = read_frames(file.getvalue(), LIMITS)
    assert next(found).index == 0
    with pytest.raises(OversizedImage):
        next(found)


def test_a_later_page_with_absurd_tags_is_refused() -> None:
    data = bytearray(animation("TIFF"))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * entries)
    struct.pack_into("<HI", data, second + 2 + 2, 4, 2**31)  # the first tag: so many numbers
    found = read_frames(bytes(data), LIMITS)
    assert next(found).index == 0
    with pytest.raises(UnreadableImage, match="page 2 has more than"):
        next(found)


def test_a_loop_of_pages_ends() -> None:
    data = bytearray(animation("TIFF", greys=(40, 90)))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * entries)
    (others,) = struct.unpack_from("<H", data, second)
    struct.pack_into("<I", data, second + 2 + 12 * others, first)
    assert len(frames(bytes(data))) == 2


def test_a_gif_with_endless_blocks_between_its_pictures_is_refused() -> None:
    data = animation("GIF", greys=(40, 90))
    comments = b"!\xfe\x01x\x00" * 2_000_000
    where = data.rindex(b"!\xf9\x04")
    with pytest.raises(UnreadableImage, match="more than 2000000 blocks"):
        frames(data[:where] + comments + data[where:])
    assert len(frames(data[:where] + comments[:100_000] + data[where:])) == 2


def test_other_data_and_damaged_videos_are_refused() -> None:
    data = video()
    for broken in (
        data[:200],
        data[:32] + bytes(len(data) - 32),
        b"\x1aE\xdf\xa3" + bytes(100),
        b"RIFF\0\0\0\0AVI ",
    ):
        with pytest.raises(UnreadableImage, match="video"):
            frames(broken)
    with pytest.raises(UnreadableImage, match="this is text, not an image"):
        frames(b"#EXTM3U\nfile:///etc/passwd\n")


def test_only_codecs_of_the_list_are_decoded() -> None:
    with pytest.raises(VideoUnavailable, match="video codec ffv1 is not supported; allowed are h264"):
        frames(video("matroska", "ffv1"))


def test_without_pyav_a_video_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = video()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoUnavailable, match=r"pip install 'rcnn-serve\[video\]'"):
        frames(data)
    assert len(frames(animation("GIF"))) == 5


def test_pixels_are_rgb() -> None:
    file = io.BytesIO()
    pillow.new("RGB", (64, 48), (200, 30, 30)).save(
        file, "PNG", save_all=True, append_images=[pillow.new("RGB", (64, 48), (30, 30, 200))]
    )
    red, blue = frames(file.getvalue())
    assert np.array_equal(red.pixels[5, 5], (200, 30, 30))
    assert np.array_equal(blue.pixels[5, 5], (30, 30, 200))


def test_a_later_page_with_huge_tiles_is_refused() -> None:
    data = bytearray(animation("TIFF", greys=(40, 90)))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * entries)
    for number, tag in enumerate((322, 323)):  # the tiles' width and length, in place of two other tags
        struct.pack_into("<HHII", data, second + 2 + 12 * number, tag, 4, 1, 60_000)
    found = read_frames(bytes(data), LIMITS)
    assert next(found).index == 0
    with pytest.raises(OversizedImage, match="60000 x 60000"):
        next(found)
