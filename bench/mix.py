"""Pixels computed over pixels needed for images of many shapes at once: `python -m bench.mix`.

Ours: each image on a canvas of its own size, batches of one canvas size. torchvision's: the same images, as
they come, in batches padded to the largest in each direction by its own GeneralizedRCNNTransform. The last
column is what the running service says of itself (rcnn_padding_ratio, rcnn_batch_size) after the same images.
"""

import argparse
import random
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from bench.harness import pictures
from bench.harness.load import Plan, Target, measure
from bench.harness.machine import describe_machine, title
from bench.harness.options import command_line, write_json
from bench.harness.processes import free_port, running
from models.images.decoder import Image
from models.pipeline.canvas import Canvas, prepare
from models.zoo.catalogue import find_card

SHAPES = {
    "landscape": (640, 480),
    "portrait": (480, 640),
    "square": (500, 500),
    "small": (200, 150),
    "12 MP": (4000, 3000),
}  # width, height
MODELS = ("coco-r50-fpn", "shapes")


@dataclass(frozen=True)
class Pixels:
    """Pixels that the network computes, and those among them that are image."""

    computed: int
    needed: int

    @property
    def waste(self) -> float:
        """Share of the computed pixels that nobody needed, 0 to 1."""
        return 1 - self.needed / self.computed

    @property
    def ratio(self) -> float:
        """Computed over needed; 1 is perfect."""
        return self.computed / self.needed


@dataclass(frozen=True)
class Served:
    """What the service says after the images: mean padding ratio of a batch, mean images in a batch."""

    padding_ratio: float
    batch_size: float


def ours(canvases: Sequence[Canvas]) -> Pixels:
    """Canvases are what is computed, whatever batch they are in."""
    computed = sum(canvas.key[0] * canvas.key[1] for canvas in canvases)
    return Pixels(computed, sum(canvas.content[0] * canvas.content[1] for canvas in canvases))


def theirs(images: Sequence[Image], batch: int, transform: GeneralizedRCNNTransform) -> Pixels:
    """torchvision's transform on the images in batches, as they come."""
    computed = needed = 0
    for start in range(0, len(images), batch):
        tensors = [
            torch.from_numpy(one.pixels).permute(2, 0, 1).float() / 255
            for one in images[start : start + batch]
        ]
        padded, _ = transform(tensors)
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
    mine = ours([canvases[id(one.pixels)] for one in images])
    return mine, theirs(images, batch, transform)


def served(model: str, connections: int, seconds: float) -> Served:
    """Ask the running service for the mixture with several connections, and read its metrics."""
    from bench.harness.service import environment, ready, serve_command

    port = free_port()
    settings = environment(port, model=model)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        kinds = {
            name: pictures.write(Path(folder) / f"{index}.jpg", size)
            for index, (name, size) in enumerate(SHAPES.items())
        }
        images = [kinds[name] for name, _ in mixture(40)]
        with running(serve_command(), settings, lambda: ready(port), 240):
            measure(Target(port), images, Plan(connections, seconds))
            text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return Served(mean(text, "rcnn_padding_ratio"), mean(text, "rcnn_batch_size"))


def mean(text: str, series: str) -> float:
    """The mean of a histogram in Prometheus text."""
    found = dict(re.findall(rf"^{series}_(sum|count) (\S+)", text, re.MULTILINE))
    return float(found["sum"]) / float(found["count"])


def rows(given: argparse.Namespace) -> Iterator[dict[str, object]]:
    """A row a model, ready for JSON."""
    for model in given.models:
        mine, other = compare(model, given.count, given.batch)
        row: dict[str, object] = {"model": model, "ours": asdict(mine), "torchvision": asdict(other)}
        row |= {"ours_waste": mine.waste, "torchvision_waste": other.waste}
        row |= {"ours_ratio": mine.ratio, "torchvision_ratio": other.ratio}
        if model in given.serve:
            row["served"] = asdict(served(model, 2 * given.batch, given.seconds))
        yield row


def main() -> None:
    """Print a row a model."""
    parser = command_line(__doc__)
    parser.add_argument("--models", nargs="*", default=MODELS, help="names of cards; only their sizes matter")
    parser.add_argument("--count", type=int, default=40, help="images")
    parser.add_argument("--batch", type=int, default=8, help="images in torchvision's batches")
    parser.add_argument("--serve", nargs="*", default=["shapes"], help="models to serve for the last column")
    parser.add_argument("--seconds", type=float, default=10, help="that the service is asked for")
    given = parser.parse_args()
    machine = describe_machine()
    columns = ("ours: computed/needed", "waste", "torchvision: computed/needed", "waste")
    heading = f"{', '.join(SHAPES)} in equal parts; {title(machine)}"
    shown = Table("model", *columns, "service: padding, images in a batch", title=heading)
    everything = list(rows(given))
    for row in everything:
        shown.add_row(*_cells(row))
    Console(width=150).print(shown)
    write_json(given.json, {"machine": machine, "rows": everything})


def _cells(row: dict[str, object]) -> list[str]:
    cells = [str(row["model"])]
    for who in ("ours", "torchvision"):
        cells += [f"{row[f'{who}_ratio']:.3f}", f"{row[f'{who}_waste']:.1%}"]
    found = row.get("served")
    return [
        *cells,
        f"{found['padding_ratio']:.1%}, {found['batch_size']:.2f}" if isinstance(found, dict) else "",
    ]


if __name__ == "__main__":
    main()
