"""The decoder leaves the process as it is and makes only valid images."""

import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import ImageFile

from models.images.decoder import Image, decode
from tests.support.data.image_files import LIMITS, chunk, corners, encoded, grey_tiff, with_png_chunks
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
