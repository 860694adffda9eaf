"""Canvas geometry against torchvision's own transform."""

import numpy as np
import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from models.images.decoder import Image
from models.pipeline.canvas import MEAN, STD, prepare, resized

SIZES = [
    (240, 320),
    (320, 240),
    (200, 200),
    (97, 301),
    (150, 1000),
    (1, 1),
    (33, 31),
    (1201, 807),
    (1500, 4000),
]


def noise(height: int, width: int) -> Image:
    return Image(np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8), "PNG")


@pytest.mark.parametrize("limits", [(320, 576), (800, 1333), (64, 64)])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_and_padding_equal_torchvisions(size: tuple[int, int], limits: tuple[int, int]) -> None:
    image = noise(*size)
    transform = GeneralizedRCNNTransform(*limits, MEAN.tolist(), STD.tolist())
    theirs, _ = transform([torch.from_numpy(image.pixels).permute(2, 0, 1) / 255])
    canvas = prepare(image, *limits)
    assert canvas.content == theirs.image_sizes[0]
    torch.testing.assert_close(canvas.pixels, theirs.tensors[0].permute(1, 2, 0), atol=1e-5, rtol=0)


def test_a_thin_image_keeps_a_row() -> None:
    """torchvision's own transform fails here: the short side would become 0."""
    canvas = prepare(noise(1, 3000), 320, 576)
    assert canvas.content == (1, 576)
    assert canvas.key == (32, 576)


def test_resize_never_passes_the_long_side() -> None:
    assert resized(240, 320, 800, 1333) == (800, 1066)
    assert resized(100, 1000, 800, 1333) == (133, 1333)


def test_sides_are_multiples_of_32_and_the_padding_is_zero() -> None:
    canvas = prepare(noise(100, 120), 100, 200)
    assert canvas.key == (128, 128)
    assert canvas.nbytes == 128 * 128 * 3 * 4
    assert not canvas.pixels[100:].any()
    assert not canvas.pixels[:, 120:].any()


def test_boxes_come_back_to_image_pixels() -> None:
    canvas = prepare(noise(400, 300), 200, 1000)  # content 266 x 200
    box = torch.tensor([[0.0, 0.0, 200.0, 266.0], [20.0, 26.6, 40.0, 53.2]])
    expected = torch.tensor([[0.0, 0.0, 300.0, 400.0], [30.0, 40.0, 60.0, 80.0]])
    torch.testing.assert_close(canvas.to_image(box), expected, atol=1e-3, rtol=0)


def test_the_image_is_left_as_it_was() -> None:
    image = noise(50, 60)
    before = image.pixels.copy()
    prepare(image, 50, 60)
    assert (image.pixels == before).all()
