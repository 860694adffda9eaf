"""Shapes of annotation programs: the bounding box of a rectangle, an outline, a circle or an ellipse."""

from collections.abc import Sequence
from typing import Any

from models.datasets.raw import Box


def box_around(points: Sequence[Any]) -> Box:
    """The bounding box of points (x, y). Raises ValueError, TypeError, IndexError."""
    xs, ys = [float(point[0]) for point in points], [float(point[1]) for point in points]
    return min(xs), min(ys), max(xs), max(ys)


def box_of_circle(points: Sequence[Any]) -> Box:
    """The box of a circle given by its centre and a point of it. Raises as box_around."""
    (x, y), (there_x, there_y) = ((float(px), float(py)) for px, py in points[:2])
    radius = ((there_x - x) ** 2 + (there_y - y) ** 2) ** 0.5
    return x - radius, y - radius, x + radius, y + radius


SHAPE_ERRORS = (ValueError, TypeError, IndexError, KeyError, OverflowError)
