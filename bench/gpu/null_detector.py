"""The service with a device that takes no time: `python -m bench.gpu.null_detector CARD`.

Requests are read, decoded, their pixels gathered for the upload and copied once, as into pinned memory. What
a GPU does for a canvas is done on meta tensors: launched, never computed. No weights are loaded.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from app.server import serve
from app.settings.settings import Settings
from models.detections import Detections
from models.images.decoder import Image
from models.pipeline.canvas import StagedCanvas, stage
from models.precision.proof import PrecisionChoice
from models.zoo.cards import Card
from models.zoo.catalogue import find_card


def to_meta(tensor: Tensor) -> Tensor:
    """A meta tensor."""
    return tensor.to("meta")


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
    precision_choice: PrecisionChoice = field(
        default_factory=lambda: PrecisionChoice("fp32", "nothing is computed")
    )
    fallback_reason: str | None = None
    hint: str | None = None
    version: str = "none"
    overlaps: bool = True
    cuda_graphs: int = 0

    def prepare(self, image: Image, size: int | None) -> StagedCanvas:
        """The host's part of a canvas."""
        return stage(image, *self.card.canvas_limits(size), Tensor.clone)

    def launch(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> int:
        """What the host does for the canvases; the number of images."""
        for job in jobs:
            job.canvas.make(to_meta)
        observe("dense", 0.0)
        return len(jobs)

    def read(self, launched: int) -> list[Detections]:
        """No detections, at once."""
        return [Detections.empty()] * launched

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
