"""Pixels computed over pixels needed for a mixture of image shapes: `python -m bench.mix`.

Ours: each image on a canvas of its own size, batches of one canvas size. torchvision's: the same images, in
the order they come, in batches padded to the largest by its own GeneralizedRCNNTransform.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from bench.harness.machine import describe_machine, title
from bench.harness.options import Columns, command_line, print_table, write_json
from bench.harness.pictures import SHAPES
from models.images.decoder import Image
from models.pipeline.canvas import Canvas, prepare
from models.zoo.catalogue import find_card

MODELS = ("coco-r50-fpn", "shapes")
COLUMNS: Columns = {
    "model": "{model}",
    "ours: computed/needed": "{ours_ratio:.3f}",
    "waste": "{ours_waste:.1%}",
    "torchvision: computed/needed": "{torchvision_ratio:.3f}",
    "its waste": "{torchvision_waste:.1%}",
}


@dataclass(frozen=True)
class Pixels:
    """Pixels that the network computes, and those among them that are image."""

    computed: int
    needed: int

    @property
    def waste(self) -> float:
        """Share of the computed pixels that are padding, 0 to 1."""
        return 1 - self.needed / self.computed

    @property
    def ratio(self) -> float:
        """Computed over needed; 1 is perfect."""
        return self.computed / self.needed


def ours(canvases: Sequence[Canvas]) -> Pixels:
    """Canvases are what is computed, whatever batch they are in."""
    computed = sum(canvas.key[0] * canvas.key[1] for canvas in canvases)
    return Pixels(computed, sum(canvas.content[0] * canvas.content[1] for canvas in canvases))


def theirs(images: Sequence[Image], batch: int, transform: GeneralizedRCNNTransform) -> Pixels:
    """torchvision's transform on the images in batches, in their order."""
    computed = needed = 0
    for start in range(0, len(images), batch):
        pixels = [image.pixels for image in images[start : start + batch]]
        padded, _ = transform([torch.from_numpy(one).permute(2, 0, 1).float() / 255 for one in pixels])
        count, _, height, width = padded.tensors.shape
        computed += count * height * width
        needed += sum(height * width for height, width in padded.image_sizes)
    return Pixels(computed, needed)


def mixture(count: int, seed: int = 1) -> list[tuple[str, tuple[int, int]]]:
    """`count` images, each shape as often as the others, shuffled."""
    names = [list(SHAPES)[index % len(SHAPES)] for index in range(count)]
    random.Random(seed).shuffle(names)  # noqa: S311  # an order, not a secret
    return [(name, SHAPES[name]) for name in names]


def compare(model: str, count: int, batch: int) -> tuple[Pixels, Pixels]:
    """Ours and torchvision's for the same images at the model's size."""
    card = find_card(model, None)
    blank = {size: np.zeros((size[1], size[0], 3), np.uint8) for size in SHAPES.values()}
    images = [Image(blank[size], "JPEG") for _, size in mixture(count)]
    canvases = {id(one.pixels): prepare(one, card.min_size, card.max_size) for one in images}
    transform = GeneralizedRCNNTransform(card.min_size, card.max_size, [0.0] * 3, [1.0] * 3)
    return ours([canvases[id(one.pixels)] for one in images]), theirs(images, batch, transform)


def measure_models(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a model, ready for JSON."""
    for model in arguments.models:
        row: dict[str, Any] = {"model": model}
        both = compare(model, arguments.count, arguments.batch)
        for name, pixels in zip(("ours", "torchvision"), both, strict=True):
            row |= {name: asdict(pixels), f"{name}_waste": pixels.waste, f"{name}_ratio": pixels.ratio}
        yield row


def main() -> None:
    """Print a row a model."""
    parser = command_line(__doc__)
    parser.add_argument("--models", nargs="*", default=MODELS, help="names of cards; only their sizes matter")
    parser.add_argument("--count", type=int, default=40, help="images")
    parser.add_argument("--batch", type=int, default=8, help="images in torchvision's batches")
    arguments, machine = parser.parse_args(), describe_machine()
    rows = list(measure_models(arguments))
    print_table(f"{', '.join(SHAPES)} in equal parts; {title(machine)}", COLUMNS, rows)
    write_json(arguments.json, machine, rows=rows)


if __name__ == "__main__":
    main()
