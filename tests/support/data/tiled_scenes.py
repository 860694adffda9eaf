"""Images of rectangles, and a detector that finds each rectangle it can see at its canvas' size."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from PIL import Image as pillow

from models.detections import Detections
from models.images.decoder import Image
from models.tiling.tiles import ResizeLimits
from tests.support.fakes import CARD, FakeCanvas, FakeDetector
from tests.support.served import Served

PNG = {"Content-Type": "image/png"}
SMALLEST = 8  # canvas px: a smaller shape is not detected
RESIZE = ResizeLimits(CARD.min_size, CARD.max_size)


@dataclass(frozen=True)
class Shape:
    """A rectangle of one colour; its box in px of the image."""

    box: tuple[int, int, int, int]
    label: int = 1
    score: float = 0.8

    @property
    def side(self) -> int:
        """The shorter side."""
        x1, y1, x2, y2 = self.box
        return min(x2 - x1, y2 - y1)


@dataclass(frozen=True)
class ShapeCanvas(FakeCanvas):
    """A canvas with the shapes that are large enough on it."""

    shapes: tuple[Shape, ...] = ()


class PixelDetector(FakeDetector):
    """Detects the visible part of each rectangle, if it is large enough on the canvas."""

    def prepare(self, image: Image, size: int | None) -> ShapeCanvas:
        canvas = super().prepare(image, size)
        scale = canvas.content[0] / canvas.image_size[0]
        large = [shape for shape in shapes_in(image.pixels) if shape.side * scale >= SMALLEST]
        return ShapeCanvas(canvas.key, canvas.content, canvas.image_size, tuple(large))

    def _found(self, job: Any) -> Detections:
        options = job.options
        kept = [
            shape
            for shape in sorted(job.canvas.shapes, key=lambda shape: -shape.score)
            if shape.score >= options.score_threshold
            and (options.classes is None or shape.label in options.classes)
        ]
        return detections(kept[: options.max_detections])


def detections(shapes: Sequence[Shape]) -> Detections:
    return Detections(
        np.array([shape.box for shape in shapes], np.float32).reshape(-1, 4),
        np.array([shape.label for shape in shapes], np.int64),
        np.array([shape.score for shape in shapes], np.float32),
    )


def draw(size: tuple[int, int], shapes: Sequence[Shape]) -> bytes:
    """A PNG of (width, height): each shape in a colour that says which one it is, its label and its score."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for number, shape in enumerate(shapes, start=1):
        x1, y1, x2, y2 = shape.box
        pixels[y1:y2, x1:x2] = (number, shape.label, round(shape.score * 250))
    file = io.BytesIO()
    pillow.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def shapes_in(pixels: Any) -> list[Shape]:
    rows, columns = np.nonzero(pixels[..., 0])
    numbers, shapes = pixels[rows, columns, 0], []
    for number in np.unique(numbers):
        ys, xs = rows[numbers == number], columns[numbers == number]
        _, label, score = pixels[ys[0], xs[0]].tolist()
        box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
        shapes.append(Shape(box, label, score / 250))
    return shapes


def grid(size: tuple[int, int], side: int = 12, step: int = 61) -> list[Shape]:
    """Small shapes all over the image, up to its borders."""
    width, height = size
    corners = [(x, y) for y in range(0, height - side + 1, step) for x in range(0, width - side + 1, step)]
    return [Shape((x, y, x + side, y + side)) for x, y in corners][:255]


async def detect(served: Served, content: bytes, query: str) -> httpx.Response:
    return await served.client.post(f"/detect?{query}", content=content, headers=PNG)


async def answer(served: Served, content: bytes, query: str) -> dict[str, Any]:
    response = await detect(served, content, query)
    assert response.status_code == 200, response.text
    return dict(response.json())


def boxes(result: dict[str, Any]) -> list[tuple[float, ...]]:
    return sorted(tuple(box) for box in result["boxes"])
