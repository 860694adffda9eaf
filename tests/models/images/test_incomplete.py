"""Files that end too early: complete without an end mark, refused, or answered for what is there."""

from collections.abc import Mapping

import pytest
from PIL import Image as pillow

from models.images.decoder import Limits, UnreadableImage, decode
from models.images.jpeg_draft import CanvasLimits
from tests.support.data.image_files import LIMITS, encoded, noise

TOLERANT = Limits(LIMITS.max_pixels, truncated_allowed=True)
ENCODINGS: dict[str, Mapping[str, object]] = {
    "baseline": {"quality": 80},
    "progressive": {"progressive": True},
    "with restarts": {"restart_marker_rows": 1},
    "4:4:4": {"subsampling": 0, "quality": 100},
}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", ENCODINGS.values(), ids=ENCODINGS)
def test_a_jpeg_without_its_end_mark_is_whole_if_its_pixels_are(
    options: Mapping[str, object], mode: str
) -> None:
    data = encoded(noise((203, 101)).convert(mode), "JPEG", **options)
    expected = decode(data, LIMITS).pixels
    for end in (data[:-2], data[:-1], data[:-2] + b"\xff" * 9):
        image = decode(end, LIMITS)
        assert (image.pixels == expected).all()
        assert not image.truncated


@pytest.mark.parametrize("options", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("cut", [4, 5, 9, 40])
def test_a_jpeg_that_lacks_some_pixels_is_refused(options: Mapping[str, object], cut: int) -> None:
    data = encoded(noise((203, 101)), "JPEG", **options)
    with pytest.raises(UnreadableImage, match="damaged, cut short"):
        decode(data[:-cut], LIMITS)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blocks_that_are_missing_in_black_or_white_are_missed(level: int) -> None:
    data = encoded(pillow.new("RGB", (96, 96), (level,) * 3), "JPEG")
    for cut in range(4, 20):
        with pytest.raises(UnreadableImage):
            decode(data[:-cut], LIMITS)


def test_a_progressive_jpeg_that_lacks_its_last_scan_is_refused() -> None:
    data = encoded(noise((203, 101)), "JPEG", progressive=True)
    with pytest.raises(UnreadableImage):
        decode(data[: data.rindex(b"\xff\xda")], LIMITS)


def test_a_draft_of_a_jpeg_without_its_end_mark_is_whole() -> None:
    limits: CanvasLimits = (32, 64)
    data = encoded(noise((600, 504)), "JPEG")
    whole, open_ended = decode(data, LIMITS, limits), decode(data[:-2], LIMITS, limits)
    assert open_ended.draft == whole.draft is not None
    assert (open_ended.pixels == whole.pixels).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF"])
def test_a_cut_file_is_answered_for_what_is_there_where_that_is_allowed(format: str) -> None:
    picture = noise((240, 200)).quantize(64) if format == "GIF" else noise((240, 200))
    data = encoded(picture, format, **({"interlace": 0} if format == "GIF" else {}))
    half = data[: len(data) // 2]
    with pytest.raises(UnreadableImage):
        decode(half, LIMITS)
    image, whole = decode(half, TOLERANT), decode(data, TOLERANT)
    assert (image.truncated, whole.truncated) == (True, False)
    assert image.pixels.shape == whole.pixels.shape
    rows = slice(-30, None) if format == "BMP" else slice(None, 30)  # a BMP begins at the bottom
    assert (image.pixels[rows] == whole.pixels[rows]).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF"])
def test_a_file_without_any_pixels_is_refused_all_the_same(format: str) -> None:
    data = encoded(noise((240, 200)), format)
    with pytest.raises(UnreadableImage):
        decode(data[:40], TOLERANT)
