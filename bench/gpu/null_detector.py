"""The service with a device that takes no time: `python -m bench.gpu.null_detector CARD`.

Requests are read, decoded, their pixels gathered for the upload and copied once, as into pinned memory. All
that a GPU does is done on meta tensors: launched, never computed. No weights are loaded.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from app.server import serve
from app.settings.settings import Settings
from models.detections import Detections
from models.images.decoder import Image
from models.pipeline.canvas import Canvas, prepare
from models.zoo.cards import Card
from models.zoo.catalogue import find_card


def upload(tensor: Tensor) -> Tensor:
    """One copy, and from then on a meta tensor."""
    return tensor.clone().to("meta")


@dataclass(frozen=True, eq=False)
class NullDetector:
    """Prepares images of a card as for a GPU, and finds nothing in any of them."""

    card: Card
    engine_name: str = "none"
    device: str = "cpu"
    precision: str = "fp32"
    fallback_reason: str | None = None
    version: str = "none"
    cuda_graphs: int = 0

    def prepare(self, image: Image, size: int | None) -> Canvas:
        """The host's part of a canvas."""
        return prepare(image, *self.card.canvas_limits(size), upload)

    def detect(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> list[Detections]:
        """No detections, at once."""
        observe("dense", 0.0)
        return [Detections.empty() for _ in jobs]

    def warm_up(self, cap: int) -> int:
        """Any batch is useful."""
        return cap

    def memory_bytes(self) -> dict[str, int]:
        """None is used."""
        return {}


def main() -> int:
    """Serve with the settings of the environment; the exit code is the program's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card", help="name or path of a card")
    return serve(Settings(), NullDetector(find_card(parser.parse_args().card, None)))


if __name__ == "__main__":
    sys.exit(main())
