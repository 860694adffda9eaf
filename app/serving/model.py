"""A loaded model, and the jobs and results of its batches.

A request takes one `LoadedModel` when it begins, and is answered wholly by it: its options, its canvas and
its class names come from no other, whatever is loaded or unloaded meanwhile.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.batching.flow import Flow
from app.errors import InvalidParameter
from app.serving.interfaces import Canvas, Detector
from app.serving.statistics import Statistics
from app.telemetry import tracing
from models.detections import Detections
from models.images.decoder import Image
from models.options import Options
from models.tiling.tiles import ResizeLimits, Tile, Tiling, tiles_of
from models.zoo.cards import Card
from models.zoo.classes import Classes, UnknownClass

ANY_VERSION = "1"  # of clients that must name a version and know none
SMALLEST_SIZE = 64  # as of the option `size`: a smaller image shows the network nothing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory, warmed up: a detector for each device, freed with this object.

    `best_batch` is the largest useful batch; `memory_bytes` what the process or its device grew by;
    `flow` its part of the queue and the devices; `statistics` what it has done.
    """

    detectors: tuple[Detector, ...]
    classes: Classes
    best_batch: int
    memory_bytes: int = 0
    flow: Flow = field(default_factory=Flow)
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def detector(self) -> Detector:
        """The detector of the first device."""
        return self.detectors[0]

    @property
    def devices(self) -> tuple[str, ...]:
        """Where it runs: cpu, cuda:0, …"""
        return tuple(detector.device for detector in self.detectors)

    @property
    def card(self) -> Card:
        """The card that it was loaded from."""
        return self.detector.card

    @property
    def name(self) -> str:
        """The name that requests use."""
        return self.card.name

    @property
    def version(self) -> str:
        """Changes with the card or the weights."""
        return self.detector.version

    @property
    def labels(self) -> Mapping[int, str]:
        """Id to name of every class, without the background and unused ids."""
        return self.classes.names

    @property
    def hint(self) -> str | None:
        """What a user of the demo model must know; None for a model that was chosen."""
        return self.detector.hint

    def summary(self) -> str:
        """Name, devices, engine, precision with its reason, and version, for the log."""
        detector = self.detector
        precision = f"{detector.precision} ({detector.precision_choice.reason})"
        engine = f"engine {detector.engine_name}, {precision}, batches of up to {self.best_batch}"
        return f"{self.name} on {', '.join(self.devices)}, {engine}, version {detector.version}"

    def class_ids(self, tokens: Sequence[str]) -> frozenset[int] | None:
        """Ids of classes by name (in any case) or id; None for no tokens; raises InvalidParameter."""
        try:
            return self.classes.ids(tokens)
        except UnknownClass as error:
            raise InvalidParameter(
                f"classes: {error.token!r} is no class of {self.name}; it has "
                f"{len(self.labels)}, such as {', '.join(error.near)}; GET /labels lists them all"
            ) from error

    def prepare(self, image: Image, size: int | None, upscale: bool) -> Canvas:
        """The canvas of an image; without `upscale` an image is not enlarged."""
        return self.detector.prepare(image, size if upscale else _own_size(image, size, self.card))

    def tiles(self, size: tuple[int, int], short: int | None, tiling: Tiling) -> tuple[Tile, ...]:
        """The tiles of an image of that (width, height), resized to `short` px; raises TooManyTiles."""
        side = short or self.card.min_size
        return tiles_of(
            size, tiling, ResizeLimits(side, round(self.card.max_size * side / self.card.min_size))
        )


@dataclass(frozen=True, eq=False)
class InferenceJob:
    """One canvas for the device: the options and the model of its request, and its trace."""

    canvas: Canvas
    options: Options
    model: LoadedModel
    span: tracing.Span | None = None

    @property
    def key(self) -> tuple[LoadedModel, tuple[int, int]]:
        """The same for all jobs of a batch."""
        return self.model, self.canvas.key


@dataclass(frozen=True, eq=False)
class InferenceResult:
    """Detections of one canvas, the seconds of its batch's postprocessing, and that batch's span."""

    detections: Detections
    postprocess: float
    batch: tracing.Span | None = None


def _own_size(image: Image, size: int | None, card: Card) -> int | None:
    """The size at which an image that would be enlarged keeps its own; for any other image, `size`."""
    side = size or card.min_size
    short, long = sorted((image.height, image.width))
    scale = min(side / short, side * card.max_size / card.min_size / long)  # as `Detector.prepare` has it
    return max(SMALLEST_SIZE, round(side / scale)) if scale > 1 else size
