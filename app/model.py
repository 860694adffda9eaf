"""The model behind the service: loaded and warmed up while the port already answers, then run in batches."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from app import tracing
from app.errors import InvalidParameter, NotFound
from app.metrics import Metrics
from app.worker import Ran, Worker
from models.detections import Detections
from models.images import DecodeJpeg, Image
from models.options import Options
from models.tiles import Sight, Tile, Tiling, tiles_of
from models.zoo.cards import Card
from models.zoo.classes import Classes, UnknownClass

SMALLEST_SIZE = 64  # as of the option `size`: below it the network has nothing to see

logger = logging.getLogger(__name__)


class Canvas(Protocol):
    """A network input, as far as the service looks at it; sizes are (height, width) in pixels."""

    @property
    def key(self) -> tuple[int, int]: ...
    @property
    def content(self) -> tuple[int, int]: ...
    @property
    def nbytes(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Job:
    """One image ready for the device, what its request asked for, and its trace."""

    canvas: Canvas
    options: Options
    span: tracing.Span | None = None


class Detector(Protocol):
    """What the service needs of a detector; `models.detector.Detector` is one, and imports torch."""

    @property
    def card(self) -> Card: ...
    @property
    def engine_name(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def fallback_reason(self) -> str | None: ...
    @property
    def jpeg(self) -> DecodeJpeg | None: ...

    def prepare(self, image: Image, size: int | None) -> Canvas: ...

    # The jobs are Any because a job type that names torch's canvas cannot be named here.
    def detect(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> list[Detections]: ...

    def warm_up(self, cap: int) -> int: ...
    def memory_bytes(self) -> dict[str, int]: ...


@dataclass(frozen=True, eq=False)
class Inferred:
    """Detections of one image, the seconds that its batch spent on postprocessing, and that batch's span."""

    detections: Detections
    postprocess: float
    batch: tracing.Span | None = None


class Model:
    """A detector that arrives later, once for each device; everything but `load` needs it to be there."""

    def __init__(self, load: Callable[[], Sequence[Detector]], metrics: Metrics) -> None:
        self._load = load
        self._metrics = metrics
        self._detectors: Sequence[Detector] = ()
        self._classes = Classes.of(())

    @property
    def loaded(self) -> Detector | None:
        """The first device's detector, or None while it loads or when it could not be loaded."""
        return self._detectors[0] if self._detectors else None

    @property
    def devices(self) -> tuple[str, ...]:
        """Where the detectors run: cpu, cuda:0, …; none before they are loaded."""
        return tuple(detector.device for detector in self._detectors)

    @property
    def detector(self) -> Detector:
        """The first device's detector; asking before it is there is a mistake of the caller."""
        if not self._detectors:
            raise RuntimeError("the model is not loaded")
        return self._detectors[0]

    def refuse_other(self, name: str | None) -> None:
        """Raise NotFound for any name but that of the loaded model; None asks for no particular one."""
        ours = self.detector.card.name
        if name not in (None, ours):
            raise NotFound(f"no model {str(name)[:60]!r} here; this server serves {ours!r}: ask for that one")

    def summary(self) -> str:
        """What is loaded and where it runs, for the log."""
        it = self.detector
        return f"{it.card.name} on {', '.join(self.devices)}, engine {it.engine_name}, {it.precision}"

    async def load(self, max_batch: int) -> int | Exception:
        """Load and warm up; the largest batch up to `max_batch` that pays on every device, or what is wrong.

        On a daemon thread: a download cannot be interrupted, and must not keep the process from ending.
        """
        loader: Worker[int, int] = Worker(self._load_and_warm_up, time.monotonic)
        outcome = await loader.call([max_batch])
        loader.stop()
        return outcome.results[0] if isinstance(outcome, Ran) else outcome

    def _load_and_warm_up(self, caps: list[int]) -> list[int]:
        detectors = self._load()
        useful = [_warm_up(detectors, cap) for cap in caps]
        self._classes = Classes.of(detectors[0].card.labels)
        self._detectors = detectors
        for detector in detectors:
            self._describe(detector)
        return useful

    def _describe(self, detector: Detector) -> None:
        card = detector.card
        self._metrics.model_info.labels(
            name=card.name,
            architecture=card.architecture,
            engine=detector.engine_name,
            precision=detector.precision,
            device=detector.device,
        ).set(1)
        for kind in detector.memory_bytes():
            memory = self._metrics.device_memory_bytes.labels(device=detector.device, kind=kind)
            memory.set_function(partial(_memory, detector, kind))

    @property
    def labels(self) -> Mapping[int, str]:
        """Id to name of every class; not of the background, nor of ids that stand for nothing."""
        return self._classes.names

    def class_ids(self, tokens: Sequence[str]) -> frozenset[int] | None:
        """Ids of classes given by name (in any case) or id; None for no tokens; raises InvalidParameter."""
        try:
            return self._classes.ids(tokens)
        except UnknownClass as error:
            raise InvalidParameter(
                f"classes: {error.token!r} is no class of {self.detector.card.name}; it has "
                f"{len(self._classes.names)}, such as {', '.join(error.near)}; GET /labels lists them all"
            ) from error

    def prepare(self, image: Image, size: int | None, upscale: bool) -> Canvas:
        """The image's canvas; without `upscale` one that would be enlarged keeps its own size."""
        return self.detector.prepare(image, size if upscale else _own_size(image, size, self.detector.card))

    def tiles(self, size: tuple[int, int], short: int | None, tiling: Tiling) -> tuple[Tile, ...]:
        """The tiles of an image of that (width, height), seen at `short` px; raises TooManyTiles."""
        card = self.detector.card
        seen = short or card.min_size
        return tiles_of(size, tiling, Sight(seen, round(card.max_size * seen / card.min_size)))

    def check(self, device: int = 0) -> None:
        """Raise if a device cannot even do what it did at its warm-up."""
        self._detectors[device].warm_up(1)

    def run(self, jobs: list[Job], device: int = 0) -> list[Inferred]:
        """One batch on a device, timed by stage; called by the batcher, on that device's thread."""
        stages: defaultdict[str, float] = defaultdict(float)

        def observe(stage: str, seconds: float) -> None:
            stages[stage] += seconds
            self._metrics.stage_duration.labels(stage=stage).observe(seconds)
            if batch is not None:
                batch.stage(stage, seconds)

        with tracing.batch([job.span for job in jobs]) as batch:
            if batch is not None:
                batch.describe(_described(jobs))
            found = self._detectors[device].detect(jobs, observe)
        self._metrics.padding_ratio.observe(_padding_ratio([job.canvas for job in jobs]))
        return [Inferred(detections, stages["postprocess"], batch) for detections in found]


def _described(jobs: Sequence[Job]) -> tracing.Attributes:
    """A batch as its span shows it; the canvas as width x height."""
    height, width = jobs[0].canvas.key
    return {"rcnn.batch.size": len(jobs), "rcnn.canvas": f"{width}x{height}"}


def _warm_up(detectors: Sequence[Detector], cap: int) -> int:
    """The largest batch up to `cap` that pays on each device; of several alike the first one is measured."""
    measured: set[str] = set()
    for detector in detectors:
        if detector.device in measured:
            detector.warm_up(1)
        else:
            measured.add(detector.device)
            cap = detector.warm_up(cap)
    return cap


def _own_size(image: Image, size: int | None, card: Card) -> int | None:
    """The size at which an image that would be enlarged keeps its own; for any other, the size given."""
    asked = size or card.min_size
    short, long = sorted((image.height, image.width))
    scale = min(asked / short, asked * card.max_size / card.min_size / long)  # as `Detector.prepare` has it
    return max(SMALLEST_SIZE, round(asked / scale)) if scale > 1 else size


def _padding_ratio(canvases: Sequence[Canvas]) -> float:
    """Share of the canvases' pixels that is not image, 0 to 1."""
    computed = sum(canvas.key[0] * canvas.key[1] for canvas in canvases)
    return 1 - sum(canvas.content[0] * canvas.content[1] for canvas in canvases) / computed


def _memory(detector: Detector, kind: str) -> float:
    return detector.memory_bytes()[kind]
