"""Drawn scenes: reproducible, within their stated bounds, and boxed exactly."""

import numpy as np
import pytest

from models.shapes.scenes import LABELS, MOST_OBJECTS, draw_scene

SCENES = 40


@pytest.fixture(scope="module")
def scenes() -> list:
    return [draw_scene(11, index) for index in range(SCENES)]


def test_the_same_numbers_draw_the_same_scene(scenes: list) -> None:
    again = draw_scene(11, 3)
    assert (again.pixels == scenes[3].pixels).all()
    assert (again.boxes == scenes[3].boxes).all()
    other = draw_scene(12, 3)
    assert other.pixels.shape != again.pixels.shape or (other.pixels != again.pixels).any()


def test_sides_and_aspects_are_as_promised(scenes: list) -> None:
    sides = np.array([scene.pixels.shape[:2] for scene in scenes])
    assert sides.min() >= 240
    assert sides.max() <= 1000
    assert (sides.max(1) / sides.min(1)).max() <= 16 / 9
    assert (sides[:, 0] > sides[:, 1]).any()
    assert (sides[:, 0] < sides[:, 1]).any()


def test_boxes_are_whole_and_inside(scenes: list) -> None:
    for scene in scenes:
        height, width = scene.pixels.shape[:2]
        assert scene.boxes.shape == (len(scene.labels), 4)
        assert len(scene.labels) <= MOST_OBJECTS
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, 2:] <= [width, height]).all()
        assert ((scene.boxes[:, 2:] - scene.boxes[:, :2]) >= 8).all()


def test_every_class_appears(scenes: list) -> None:
    labels = np.concatenate([scene.labels for scene in scenes])
    assert set(labels) == set(range(1, len(LABELS)))


def test_a_box_fits_its_shape(scenes: list) -> None:
    """Circles are as wide as high, however turned, and most centres differ from their box's corners."""
    differences = []
    for scene in scenes:
        for (x1, y1, x2, y2), label in zip(scene.boxes.astype(int), scene.labels, strict=True):
            if LABELS[label] in ("circle", "ring"):
                assert abs((x2 - x1) - (y2 - y1)) <= 1
            if LABELS[label] == "circle":
                centre = scene.pixels[(y1 + y2) // 2, (x1 + x2) // 2].astype(float)
                differences.append(np.linalg.norm(centre - scene.pixels[y1, x1]))
    assert len(differences) >= 10
    assert np.median(differences) > 60, "centres are shape, corners are background"
