"""The decoder leaves the process as it is, makes only valid images, and can use another JPEG decoder."""

import io
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image as pillow
from PIL import ImageFile

from models.images.decoder import Image, Limits, OversizedImage, UnreadableImage, decode
from tests.support.data.image_files import LIMITS, chunk, corners, encoded, exif, grey_tiff, with_png_chunks
from tests.support.served import ROOT


def test_pillows_warnings_are_not_emitted() -> None:
    twice = chunk(b"acTL", struct.pack(">II", 1, 0)) * 2  # "Invalid APNG"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(with_png_chunks(encoded(corners(), "PNG"), twice), LIMITS).width == 64
        assert decode(grey_tiff(2, 1, 8, b"ab", {256: (4, [2, 9])}), LIMITS).width == 2  # "too many entries"


def test_importing_changes_nothing_and_loads_no_torch() -> None:
    program = """
import sys, warnings
import numpy  # adds filters of its own
from PIL import Image, ImageFile
before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
import models.images.decoder, models.images.drawing, models.detections, models.options
assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
assert before[1] is False
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 8, 3), np.uint8)[:, ::2],
    ],
)
def test_an_image_must_be_rgb(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pixels are"):
        Image(pixels, "PNG")


class Other:
    """Stands for nvJPEG: returns the pixels as stored, each a little brighter than Pillow has them."""

    def __init__(self, refuses: bool = False) -> None:
        self.asked = 0
        self._refuses = refuses

    def __call__(self, data: bytes) -> np.ndarray | None:
        self.asked += 1
        pixels = np.asarray(pillow.open(io.BytesIO(data)).convert("RGB"))
        return None if self._refuses else np.minimum(pixels, 250) + np.uint8(5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_another_decoder_provides_the_pixels_of_a_jpeg(orientation: int) -> None:
    data, other = encoded(corners(), "JPEG", exif=exif(orientation)), Other()
    image, usual = decode(data, LIMITS, jpeg=other), decode(data, LIMITS)
    assert other.asked == 1
    assert image.format == "JPEG"
    assert (image.pixels == np.minimum(usual.pixels, 250) + 5).all()


def test_what_the_other_decoder_rejects_is_decoded_by_pillow() -> None:
    data, other = encoded(corners(), "JPEG"), Other(refuses=True)
    assert (decode(data, LIMITS, jpeg=other).pixels == decode(data, LIMITS).pixels).all()
    assert other.asked == 1


@pytest.mark.parametrize(
    "data",
    [
        encoded(corners(), "PNG"),
        encoded(corners().convert("L"), "JPEG"),
        encoded(corners().convert("CMYK"), "JPEG"),
        encoded(corners(), "JPEG", keep_rgb=True),
    ],
    ids=["png", "grey", "cmyk", "rgb"],
)
def test_the_other_decoder_is_used_for_ordinary_jpegs_only(data: bytes) -> None:
    other = Other()
    assert (decode(data, LIMITS, jpeg=other).pixels == decode(data, LIMITS).pixels).all()
    assert other.asked == 0


def test_limits_are_checked_before_the_other_decoder_runs() -> None:
    other = Other()
    with pytest.raises(OversizedImage):
        decode(encoded(corners(), "JPEG"), Limits(100), jpeg=other)
    assert other.asked == 0


def test_pixels_of_another_size_than_the_header_says_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="damaged"):
        decode(encoded(corners(), "JPEG"), LIMITS, jpeg=lambda data: np.zeros((9, 9, 3), np.uint8))
