"""What is exported, and what every format says about it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvision.models.detection import FasterRCNN

from models.detections import Detections
from models.images.decoder import Pixels
from models.options import Options
from models.zoo.cards import Card

if TYPE_CHECKING:
    from models.exporting.parts import Parts

Run = Callable[[Sequence[Pixels]], list[Detections]]


@dataclass(frozen=True, eq=False)
class Source:
    """A network in eval mode on the CPU, its card and its version."""

    network: FasterRCNN
    card: Card
    version: str

    @cached_property
    def parts(self) -> "Parts":
        """The converted static parts: once for all files of an export. Needs the extra `export`."""
        from models.exporting.parts import convert_parts

        return convert_parts(self.network)


@dataclass(frozen=True)
class Target:
    """A format: what writes a file of it, what runs that file, and the lines of Python that load it."""

    write: Callable[[Source, Options, Path], None]
    run: Callable[[Source, Options, Path], Run]
    loading_code: Callable[[Source, Options, Path], str]


def metadata(source: Source, options: Options) -> dict[str, str]:
    """What the file says about itself: plain texts, and JSON where the value is a list or a table."""
    card = source.card
    minimum, maximum = card.canvas_limits()
    preprocessing = {**card.preprocessing.model_dump(), "min_size": minimum, "max_size": maximum}
    values: dict[str, Any] = {
        "name": card.name,
        "architecture": card.architecture,
        "model_version": source.version,
        "labels": list(card.labels),
        "preprocessing": preprocessing,
        "score_threshold": options.score_threshold,
        "nms_threshold": options.nms_threshold,
        "max_detections": options.max_detections,
        "box_format": "xyxy",
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
