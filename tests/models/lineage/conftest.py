"""The image and boxes that the tests of R-CNN and Fast R-CNN share."""

import numpy as np
import pytest

from models.images.decoder import Image
from models.lineage.selective_search import Boxes
from models.shapes.scenes import draw_scene


def spread_boxes(number: int, image: Image) -> Boxes:
    rng = np.random.default_rng(number)
    corners = rng.uniform(0, 1, (2, number, 2)) * [image.width, image.height]
    return np.concatenate([corners.min(0), corners.max(0) + 1], axis=1).astype(np.float32)


@pytest.fixture(scope="session")
def image() -> Image:
    return Image(draw_scene(7, 0).pixels[:240, :320].copy(), "PNG")
