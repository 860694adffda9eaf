"""The model behind the service: loaded and warmed up while the port already answers, then run in batches.

What a swap replaces is one value, `LoadedModel`. A request takes the one that serves when it begins, and is
answered wholly by it: its options, its canvas and its names are of no other.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.errors import InvalidParameter, NotFound
from app.serving.interfaces import Canvas, Detector
from app.telemetry import tracing
from models.detections import Detections
from models.images.decoder import Image
from models.options import Options
from models.tiling.tiles import ResizeLimits, Tile, Tiling, tiles_of
from models.zoo.cards import Card
from models.zoo.classes import Classes, UnknownClass

ANY_VERSION = "1"  # what clients ask for that must name a version and know none
SMALLEST_SIZE = 64  # as of the option `size`: below it the network has nothing to see

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory, a detector for each device, warmed up; its memory goes with it.

    `best_batch` is the largest useful one.
    """

    detectors: tuple[Detector, ...]
    classes: Classes
    best_batch: int

    @property
    def detector(self) -> Detector:
        """The first device's."""
        return self.detectors[0]

    @property
    def devices(self) -> tuple[str, ...]:
        """Where it runs: cpu, cuda:0, …"""
        return tuple(detector.device for detector in self.detectors)

    @property
    def card(self) -> Card:
        """The card it was loaded by."""
        return self.detector.card

    @property
    def name(self) -> str:
        """The name that it is asked for by."""
        return self.card.name

    @property
    def version(self) -> str:
        """What changes with the card or the weights."""
        return self.detector.version

    @property
    def labels(self) -> Mapping[int, str]:
        """Id to name of every class; not of the background, nor of ids that stand for nothing."""
        return self.classes.names

    def summary(self) -> str:
        """What it is and where it runs, for the log."""
        it, where = self.detector, ", ".join(self.devices)
        engine = f"engine {it.engine_name}, {it.precision}, batches of up to {self.best_batch}"
        return f"{self.name} on {where}, {engine}, version {it.version}"

    def refuse_other(self, name: str | None, version: str = "") -> None:
        """Raise NotFound for any name and version but its own; None and "" ask for no particular ones."""
        if name not in (None, self.name):
            raise NotFound(
                f"no model {str(name)[:60]!r} here; this server serves {self.name!r}: ask for that one"
            )
        if version not in ("", ANY_VERSION, self.version):
            raise NotFound(
                f"no version {version[:60]!r} here; {self.name} is at {self.version}: ask for that one, for "
                f"{ANY_VERSION}, or for none"
            )

    def class_ids(self, tokens: Sequence[str]) -> frozenset[int] | None:
        """Ids of classes given by name (in any case) or id; None for no tokens; raises InvalidParameter."""
        try:
            return self.classes.ids(tokens)
        except UnknownClass as error:
            raise InvalidParameter(
                f"classes: {error.token!r} is no class of {self.name}; it has "
                f"{len(self.labels)}, such as {', '.join(error.near)}; GET /labels lists them all"
            ) from error

    def prepare(self, image: Image, size: int | None, upscale: bool) -> Canvas:
        """The image's canvas; without `upscale` one that would be enlarged keeps its own size."""
        return self.detector.prepare(image, size if upscale else _own_size(image, size, self.card))

    def tiles(self, size: tuple[int, int], short: int | None, tiling: Tiling) -> tuple[Tile, ...]:
        """The tiles of an image of that (width, height), seen at `short` px; raises TooManyTiles."""
        seen = short or self.card.min_size
        return tiles_of(
            size, tiling, ResizeLimits(seen, round(self.card.max_size * seen / self.card.min_size))
        )


@dataclass(frozen=True, eq=False)
class Job:
    """One image ready for the device, what its request asked for and of which model, and its trace."""

    canvas: Canvas
    options: Options
    model: LoadedModel
    span: tracing.Span | None = None

    @property
    def key(self) -> tuple[LoadedModel, tuple[int, int]]:
        """What a batch has one of."""
        return self.model, self.canvas.key


@dataclass(frozen=True, eq=False)
class InferenceResult:
    """Detections of one image, the seconds that its batch spent on postprocessing, and that batch's span."""

    detections: Detections
    postprocess: float
    batch: tracing.Span | None = None


def _own_size(image: Image, size: int | None, card: Card) -> int | None:
    """The size at which an image that would be enlarged keeps its own; for any other, the size given."""
    asked = size or card.min_size
    short, long = sorted((image.height, image.width))
    scale = min(asked / short, asked * card.max_size / card.min_size / long)  # as `Detector.prepare` has it
    return max(SMALLEST_SIZE, round(asked / scale)) if scale > 1 else size
