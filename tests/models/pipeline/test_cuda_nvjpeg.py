"""nvJPEG on a CUDA device (`make test-gpu`): pixels, rejected files, threads."""

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow

from models.images.decoder import Limits, UnreadableImage, decode
from models.pipeline.nvjpeg import NvJpeg
from models.shapes.scenes import draw_scene
from tests.support.cuda import DEVICE

pytestmark = pytest.mark.gpu


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(pixels).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def test_nvjpeg_gives_nearly_pillows_pixels_the_right_way_up() -> None:
    decoder, limits, exif = NvJpeg(DEVICE), Limits(10**6), pillow.Exif()
    exif[0x0112] = 6
    data = jpeg(draw_scene(5, 1).pixels, exif=exif)
    assert decoder(data) is not None
    ours, theirs = decode(data, limits, jpeg=decoder).pixels, decode(data, limits).pixels
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs.astype(int)).mean() < 3


def test_what_nvjpeg_rejects_is_refused_as_usual() -> None:
    data = jpeg(draw_scene(5, 1).pixels)
    assert NvJpeg(DEVICE)(data[: len(data) // 2]) is None
    with pytest.raises(UnreadableImage):
        decode(data[: len(data) // 2], Limits(10**6), jpeg=NvJpeg(DEVICE))


def test_nvjpeg_on_many_threads() -> None:
    decoder, files = NvJpeg(DEVICE), [jpeg(draw_scene(5, k).pixels) for k in range(16)]
    alone = [decoder(data) for data in files]
    with ThreadPoolExecutor(4) as threads:
        for one, other in zip(threads.map(decoder, files), alone, strict=True):
            np.testing.assert_array_equal(one, other)
