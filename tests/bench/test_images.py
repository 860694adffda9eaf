"""Padding of mixed image shapes, and the roofline of a network."""

import numpy as np
import pytest

from bench import mix
from bench.harness import roofline
from models.images.decoder import Image
from models.networks import build_network
from models.pipeline.canvas import prepare


def blank(*shapes: tuple[int, int, int]) -> list[Image]:
    return [Image(np.zeros(shape, np.uint8), "PNG") for shape in shapes]


def test_padding_is_counted_by_hand() -> None:
    """640x480 at 800: 800x1066 in 800x1088; its portrait; 500x500 fills 800x800."""
    images = blank((480, 640, 3), (640, 480, 3), (500, 500, 3))
    pixels = mix.ours([prepare(image, 800, 1333) for image in images])
    assert pixels == mix.Pixels(2 * 800 * 1088 + 800 * 800, 2 * 800 * 1066 + 800 * 800)
    assert pixels.waste == pytest.approx(1 - pixels.needed / pixels.computed)
    assert pixels.ratio == pytest.approx(pixels.computed / pixels.needed)


def test_torchvision_pads_the_same_images_to_the_largest() -> None:
    """A landscape and a portrait in one batch: both become 1088x1088."""
    images = blank((480, 640, 3), (640, 480, 3))
    transform = mix.GeneralizedRCNNTransform(800, 1333, [0.0] * 3, [1.0] * 3)
    together, apart = mix.theirs(images, 2, transform), mix.theirs(images, 1, transform)
    assert together == mix.Pixels(2 * 1088 * 1088, 2 * 800 * 1066)
    assert apart == mix.Pixels(2 * 800 * 1088, 2 * 800 * 1066)


def test_the_mixture_wastes_little_here() -> None:
    assert sorted(name for name, _ in mix.mixture(10)) == sorted([*mix.SHAPES] * 2)
    ours, theirs = mix.compare("coco-r50-fpn", 5, 5)
    assert ours.needed == theirs.needed
    assert ours.waste <= 0.03 < 0.2 < theirs.waste


def test_arithmetic_is_counted_as_by_hand() -> None:
    """VGG-16's first convolution alone, 3x3 from 3 to 64 channels; the head grows with the proposals."""
    network = build_network("vgg16", 3)
    work = roofline.count(network, (64, 96), 10)
    first = 2 * 9 * 3 * 64 * 64 * 96
    layers = ((64, 64, 1), (64, 128, 4), (128, 128, 4), (128, 256, 16), (256, 256, 16), (256, 256, 16))
    layers += ((256, 512, 64), (512, 512, 64), (512, 512, 64), *((512, 512, 256),) * 3)
    backbone = first + sum(2 * 9 * a * b * 64 * 96 // share for a, b, share in layers)
    positions, anchors = 4 * 6, 9
    rpn = positions * (2 * 9 * 512 * 512 + 2 * 512 * 5 * anchors)
    head = 10 * 2 * (512 * 49 * 4096 + 4096 * 4096 + 4096 * 5 * 3)
    assert work.dense == pytest.approx((backbone + rpn) / 1e9)
    assert work.head == pytest.approx(head / 1e9)
    assert roofline.count(network, (64, 96), 20).head == pytest.approx(2 * work.head)
    assert next(network.parameters()).device.type == "cpu"  # counting leaves the network as it is


def test_shares_are_of_the_best_kernel_of_the_engines_own_numbers() -> None:
    runs = [
        {"fp32": {"a": 50.0, "b": 100.0}, "int8": {"a": 400.0}},
        {"fp32": {"a": 60.0, "b": 90.0}, "int8": {"a": 390.0}},
    ]
    peaks = roofline.best(runs)
    assert peaks == {"fp32": {"a": 60.0, "b": 100.0}, "int8": {"a": 400.0}}
    work = roofline.Work(dense=8.0, head=2.0)

    def shares(engine: str, ms: float, **stages: float) -> list[tuple[str, float, float]]:
        row = {"model": "m", "engine": engine, "ms": ms, "stages_ms": stages}
        parts = roofline.shares(work, peaks, row)
        return [(part["part"], part["ms_at_peak"], part["share_of_peak"]) for part in parts]

    assert shares("torchvision eager", 200.0, decode=3.0) == [("image", 100.0, 0.5)]
    rows = shares("openvino int8", 100.0, dense=40.0, head=50.0)
    assert rows == [("dense", 20.0, 0.5), ("head", 5.0, 0.1), ("image", 25.0, 0.25)]
