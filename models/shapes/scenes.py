"""Drawn scenes: textured backgrounds with shapes on them, and the box of each shape."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFilter

from models.shapes.outlines import CLASSES, RING_HOLE, outline

LABELS = ("background", *CLASSES)
SHORT_SIDE = (240, 1000)
LONGEST_ASPECT = 16 / 9
MOST_OBJECTS = 10
RADIUS = (0.05, 0.26)  # of the short side
SMALLEST_RADIUS = 12.0  # px; the corners of smaller shapes cannot be seen
VISIBLE = 0.7  # share of a shape that others must leave visible
SUPERSAMPLING = 3
LARGE_SIZE = (2000, 1500)  # width, height of a large scene
SMALL_RADIUS, LARGE_RADIUS = (6.0, 20.0), (50.0, 350.0)  # px: small objects of 12 to 40, and others
LARGE_SHARE = 0.2  # of the shapes in a large scene that are not small

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.float32]
Radii = tuple[float, float, float]
"""Lowest and highest radius to draw, evenly by their logarithm, and a lower bound for all, px."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One drawn image: pixels (H, W, 3) RGB, boxes (N, 4) xyxy px of whole shapes, labels (N,) from 1."""

    pixels: Pixels
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Shape:
    label: int
    left: int
    top: int
    mask: Mask  # coverage 0..1 of the pixels from (left, top) on

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def draw_scene(seed: int, index: int) -> Scene:
    """Draw scene `index` of the endless series `seed`: the same arguments always give the same scene."""
    rng = np.random.default_rng([seed, index])
    height, width = _sides(rng)
    canvas = _background(rng, height, width)
    owner = np.zeros((height, width), np.int16)  # of each pixel: 0 is the background, k the k-th shape
    shapes: list[_Shape] = []
    low, high = (share * min(height, width) for share in RADIUS)
    for _ in range(int(rng.integers(0 if rng.random() < 0.05 else 1, MOST_OBJECTS + 1))):
        shape = _place(rng, owner, shapes, (low, high, SMALLEST_RADIUS))
        if shape is not None:
            _paint(rng, canvas, shape)
            shapes.append(shape)
    return _scene(rng, canvas, shapes)


def draw_large_scene(seed: int, index: int, size: tuple[int, int] = LARGE_SIZE, objects: int = 60) -> Scene:
    """As `draw_scene`: an image of (width, height) with many small shapes and a few large ones."""
    rng = np.random.default_rng([seed, index])
    width, height = size
    canvas = _background(rng, height, width)
    owner = np.zeros((height, width), np.int16)
    shapes: list[_Shape] = []
    large = round(objects * LARGE_SHARE)
    for number in range(objects):  # large ones first, or they would cover small ones
        radius = LARGE_RADIUS if number < large else SMALL_RADIUS
        shape = _place(rng, owner, shapes, (*radius, radius[0]))
        if shape is not None:
            _paint(rng, canvas, shape)
            shapes.append(shape)
    return _scene(rng, canvas, shapes)


def _scene(rng: np.random.Generator, canvas: Floats, shapes: list[_Shape]) -> Scene:
    boxes = np.array([_box(shape) for shape in shapes], np.float32).reshape(-1, 4)
    labels = np.array([shape.label for shape in shapes], np.int64)
    return Scene(_camera(rng, canvas), boxes, labels)


def _sides(rng: np.random.Generator) -> tuple[int, int]:
    short = int(rng.integers(SHORT_SIDE[0], 641))
    long = min(SHORT_SIDE[1], int(short * rng.uniform(1.0, LONGEST_ASPECT)))
    return (short, long) if rng.random() < 0.5 else (long, short)


def _colour(rng: np.random.Generator) -> Floats:
    return rng.uniform(0, 255, 3)


def _field(rng: np.random.Generator, height: int, width: int, cells: int) -> Floats:
    """Smooth noise in 0..1 with about `cells` bumps along the longer side."""
    longer = max(height, width)
    grid = rng.integers(0, 256, (max(2, cells * height // longer), max(2, cells * width // longer)))
    image = PillowImage.fromarray(grid.astype(np.uint8)).resize(
        (width, height), PillowImage.Resampling.BICUBIC
    )
    return np.asarray(image, np.float64) / 255


def _stripes(rng: np.random.Generator, height: int, width: int) -> Floats:
    period = rng.uniform(12, 90)
    angle = rng.uniform(0, math.pi)
    y, x = np.mgrid[:height, :width]
    wave: Floats = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period)
    hard = rng.random() < 0.4
    return np.where(wave > 0, 1.0, 0.0) if hard else (wave + 1) / 2


def _checker(rng: np.random.Generator, height: int, width: int) -> Floats:
    cell = int(rng.integers(14, 70))
    y, x = np.mgrid[:height, :width]
    squares: Floats = (x // cell + y // cell) % 2 * 1.0
    return squares


def _background(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Two colours mixed by a texture, a finer texture over it: (H, W, 3) in 0..255."""
    kind = rng.random()
    if kind < 0.2:
        texture = _stripes(rng, height, width)
    elif kind < 0.35:
        texture = _checker(rng, height, width)
    else:
        texture = _field(rng, height, width, int(rng.integers(2, 24)))
    first, second = _colour(rng), _colour(rng)
    second = first + (second - first) * rng.uniform(0.1, 0.7)  # low contrast, so that the shapes stand out
    canvas = first + (second - first) * texture[..., None]
    fine = _field(rng, height, width, int(rng.integers(40, 160))) - 0.5
    return canvas + fine[..., None] * rng.uniform(0, 40)


def _place(
    rng: np.random.Generator, owner: npt.NDArray[np.int16], shapes: list[_Shape], radii: Radii
) -> _Shape | None:
    """A shape that leaves the others visible, entered into `owner`; None after eight tries."""
    height, width = owner.shape
    for _ in range(8):
        shape = _shape(rng, height, width, radii)
        window = owner[shape.window]
        covered = shape.mask > 0.5
        if all(_still_visible(owner, window, covered, k, other) for k, other in enumerate(shapes, start=1)):
            window[covered] = len(shapes) + 1
            return shape
    return None


def _still_visible(
    owner: npt.NDArray[np.int16],
    window: npt.NDArray[np.int16],
    covered: npt.NDArray[np.bool_],
    k: int,
    other: _Shape,
) -> bool:
    lost = int(np.count_nonzero(window[covered] == k))
    if lost == 0:
        return True
    seen = int(np.count_nonzero(owner[other.window] == k))
    return seen - lost >= VISIBLE * int(np.count_nonzero(other.mask > 0.5))


def _shape(rng: np.random.Generator, height: int, width: int, radii: Radii) -> _Shape:
    low, high, least = radii
    radius = max(least, math.exp(rng.uniform(math.log(low), math.log(high))))
    label = int(rng.integers(1, len(LABELS)))
    mask = _mask(LABELS[label], radius, rng.uniform(0, 2 * math.pi))
    left = int(rng.integers(0, width - mask.shape[1] + 1))
    top = int(rng.integers(0, height - mask.shape[0] + 1))
    return _Shape(label, left, top, mask)


def _mask(name: str, radius: float, angle: float) -> Mask:
    """The shape's coverage, cropped to the pixels it touches."""
    side = 2 * math.ceil(radius) + 2
    fine = PillowImage.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING))
    pen = ImageDraw.Draw(fine)
    centre = side * SUPERSAMPLING / 2
    for scale, ink in ((1.0, 255), (RING_HOLE, 0)) if name == "ring" else ((1.0, 255),):
        points = outline(name, radius * scale * SUPERSAMPLING, angle)
        pen.polygon([(centre + x, centre + y) for x, y in points], fill=ink)
    mask = np.asarray(fine.resize((side, side), PillowImage.Resampling.BOX), np.float32) / np.float32(255)
    rows, columns = np.flatnonzero(mask.max(1) > 0.1), np.flatnonzero(mask.max(0) > 0.1)
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _paint(rng: np.random.Generator, canvas: Floats, shape: _Shape) -> None:
    height, width = shape.mask.shape
    under = canvas[shape.window]
    colour = _distinct_colour(rng, under[shape.mask > 0.5].mean(0))
    fill = np.broadcast_to(colour, (height, width, 3))
    style = rng.random()
    if style < 0.3:  # shaded from side to side
        ramp = np.linspace(-1, 1, width)[None, :, None] * rng.uniform(10, 45)
        fill = fill + (ramp if rng.random() < 0.5 else -ramp)
    elif style < 0.5:  # mottled
        fill = fill + (_field(rng, height, width, int(rng.integers(3, 9))) - 0.5)[..., None] * rng.uniform(
            20, 80
        )
    alpha = shape.mask[..., None] * rng.uniform(0.85, 1.0)
    canvas[shape.window] = under * (1 - alpha) + fill * alpha


def _distinct_colour(rng: np.random.Generator, under: Floats) -> Floats:
    """A colour that differs from the background: at least 70 of 441 away in RGB."""
    while True:
        colour = _colour(rng)
        if np.linalg.norm(colour - under) > 70:
            return colour


def _box(shape: _Shape) -> tuple[float, float, float, float]:
    height, width = shape.mask.shape
    return float(shape.left), float(shape.top), float(shape.left + width), float(shape.top + height)


def _camera(rng: np.random.Generator, canvas: Floats) -> Pixels:
    """Add what a camera adds: sensor noise, sometimes a slight blur."""
    noisy = canvas + rng.normal(0, rng.uniform(0, 8), canvas.shape)
    pixels = noisy.clip(0, 255).astype(np.uint8)
    if rng.random() >= 0.2:
        return pixels
    image = PillowImage.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2)))
    return np.asarray(image)
