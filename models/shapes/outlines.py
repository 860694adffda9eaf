"""The outlines of the eight classes of the bundled model, as polygons in the unit circle."""

import math
from collections.abc import Callable, Sequence
from functools import partial

Polygon = Sequence[tuple[float, float]]

RING_HOLE = 0.55  # of a ring's radius


def _regular(corners: int, radii: Sequence[float] = (1.0,)) -> Polygon:
    """Corners on circles of the given radii in turn, the first one upwards."""
    steps = [(radii[k % len(radii)], 2 * math.pi * k / corners - math.pi / 2) for k in range(corners)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in steps]


def _cross() -> Polygon:
    a, b = 0.32, 0.95
    right = [(a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b)]
    return [(-a, -b), *right, *((-x, y) for x, y in right[:0:-1])]


def _heart() -> Polygon:
    points = []
    for k in range(60):
        t = 2 * math.pi * k / 60
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3 * 16 / 17, -y / 17))
    return points


def _arrow() -> Polygon:
    return [(-1.0, -0.22), (0.15, -0.22), (0.15, -0.62), (1.0, 0.0), (0.15, 0.62), (0.15, 0.22), (-1.0, 0.22)]


OUTLINES: dict[str, Callable[[], Polygon]] = {
    "circle": partial(_regular, 72),
    "square": partial(_regular, 4),
    "triangle": partial(_regular, 3),
    "star": partial(_regular, 10, (1.0, 0.42)),
    "ring": partial(_regular, 72),
    "cross": _cross,
    "heart": _heart,
    "arrow": _arrow,
}
CLASSES: tuple[str, ...] = tuple(OUTLINES)


def outline(name: str, radius: float, angle: float) -> Polygon:
    """The outline of a class around (0, 0), in pixels, rotated by `angle` radians."""
    cos, sin = radius * math.cos(angle), radius * math.sin(angle)
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in OUTLINES[name]()]
