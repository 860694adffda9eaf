"""Images in tiles in this process; tests/app/commands/test_cli.py compares them with the service."""

import numpy as np
import pytest

from models.detector import Job
from models.images.decoder import Image
from models.options import Options
from models.tiling.tiled_detect import detect_tiled
from models.tiling.tiles import Tiling
from tests.support.data.networks import matches, random_detector

pytestmark = pytest.mark.network
OPTIONS = Options(0.2, 0.5, 50)


def test_batches_of_tiles_change_nothing_and_one_tile_is_the_image() -> None:
    detector = random_detector()
    image = Image(np.random.default_rng(5).integers(0, 256, (500, 700, 3), np.uint8), "PNG")
    single, batched = (detect_tiled(detector, image, OPTIONS, Tiling(), batch=size) for size in (1, 3))
    [whole] = detector.detect([Job(detector.prepare(image), OPTIONS)])
    untiled = detect_tiled(detector, image, OPTIONS, Tiling(1000))
    assert matches(batched, single) == len(batched) == len(single) > 10
    assert batched.boxes.tolist() != whole.boxes.tolist()
    assert (untiled.boxes == whole.boxes).all()
    assert (untiled.scores == whole.scores).all()
