"""Drawn blood smears with their ground truth: red cells, a white one with a lobed nucleus, platelets.

No photograph of the data set lies in this repository; these stand in for it where AP must not fall.
"""

import numpy as np
import numpy.typing as npt

from models.shapes.scenes import Scene

LABELS = ("background", "Platelets", "RBC", "WBC")
HEIGHT, WIDTH = 480, 640
PLASMA = (194.0, 195.0, 192.0)
RED, PALE = (186.0, 138.0, 130.0), (200.0, 170.0, 165.0)
PLASM, NUCLEUS, PLATELET = (205.0, 150.0, 190.0), (95.0, 80.0, 190.0), (140.0, 125.0, 200.0)
GAP = 6  # px between two cells: what overlaps is another test's business
RIM = 4  # px that annotators leave around a cell

Pixels = npt.NDArray[np.float64]


def draw_smear(seed: int) -> Scene:
    """A smear of 480x640 px; the sizes of its cells are those of the data set, px."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((HEIGHT, WIDTH, 3)) + PLASMA
    places: list[tuple[float, float, float, int]] = []
    wanted = [(3, rng.uniform(75, 105))]
    wanted += [(2, radius) for radius in rng.uniform(43, 58, rng.integers(6, 10))]
    wanted += [(1, radius) for radius in rng.uniform(15, 23, rng.integers(1, 4))]
    for label, radius in wanted:
        place = _free_place(rng, radius, places)
        if place is not None:
            places.append((*place, radius, label))
            _draw_cell(pixels, rng, place, radius - RIM, label)
    noisy = pixels + rng.normal(0, 3, pixels.shape)
    boxes = np.array([[x - r, y - r, x + r, y + r] for x, y, r, _ in places], np.float32)
    labels = np.array([label for *_, label in places], np.int64)
    return Scene(noisy.clip(0, 255).astype(np.uint8), boxes, labels)


def _free_place(
    rng: np.random.Generator, radius: float, places: list[tuple[float, float, float, int]]
) -> tuple[float, float] | None:
    for _ in range(60):
        x, y = rng.uniform(radius + 4, WIDTH - radius - 4), rng.uniform(radius + 4, HEIGHT - radius - 4)
        if all(np.hypot(x - u, y - v) > radius + other + GAP for u, v, other, _ in places):
            return float(x), float(y)
    return None


def _draw_cell(
    pixels: Pixels, rng: np.random.Generator, place: tuple[float, float], radius: float, label: int
) -> None:
    if label == 1:
        _blend(pixels, place, radius, PLATELET, 0.9)
    elif label == 2:
        _blend(pixels, place, radius, RED, 0.95)
        _blend(pixels, place, 0.45 * radius, PALE, rng.uniform(0.3, 0.9), soft=10)
    else:
        _blend(pixels, place, radius, PLASM, 0.9)
        for angle in rng.uniform(0, 2 * np.pi) + np.array([0.0, 2.1, 4.2]):
            lobe = place[0] + 0.4 * radius * np.cos(angle), place[1] + 0.4 * radius * np.sin(angle)
            _blend(pixels, (float(lobe[0]), float(lobe[1])), 0.42 * radius, NUCLEUS, 0.95, soft=4)


def _blend(
    pixels: Pixels,
    place: tuple[float, float],
    radius: float,
    colour: tuple[float, float, float],
    strength: float,
    soft: float = 2.0,
) -> None:
    """A disc with an edge `soft` pixels wide."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = np.clip((radius - np.hypot(x - place[0], y - place[1])) / soft + 0.5, 0, 1)[..., None] * strength
    pixels[:] = pixels * (1 - inside) + np.array(colour) * inside
