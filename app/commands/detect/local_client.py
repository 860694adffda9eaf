"""A model in this process that detects for `rcnn detect`."""

import time
from collections.abc import Mapping

from app.commands import USAGE, CommandFailed
from app.commands.detect.result import ImageResult
from app.commands.shared.model import load_detector
from app.schemas.options import DetectOptions
from app.settings.settings import Settings
from models.detections import Detections
from models.detector import Detector, Job
from models.images.decoder import Image, Limits, decode
from models.options import Options
from models.tiling.tiled_detect import detect_tiled, tiles_for
from models.zoo.cards import Card
from models.zoo.classes import Classes, UnknownClass
from models.zoo.download import Observe


class LocalClient:
    """An ImageDetector that decodes, detects and times one image after the other, without a queue."""

    def __init__(self, detector: Detector, limits: Limits) -> None:
        self._detector = detector
        self._limits = limits
        self._classes = Classes.of(detector.card.labels)

    def labels(self) -> Mapping[int, str]:
        """Id to name of the model's classes."""
        return self._classes.names

    def detect(self, image: bytes, options: DetectOptions) -> ImageResult:
        """Detections of one image file; raises ImageError, TooManyTiles, CommandFailed, MemoryError."""
        resolved = resolve(options, self._detector.card, self._classes)
        started = time.perf_counter()
        if tiling := options.tiling():
            picture = decode(image, self._limits)
            if tiles_for(self._detector, picture, tiling, options.size):
                decoded = time.perf_counter()
                detections = detect_tiled(self._detector, picture, resolved, tiling, options.size)
                return self._result(picture, detections, (started, decoded, time.perf_counter()), 0.0)
        picture = decode(image, self._limits, self._detector.card.draft_limits(options.size))
        canvas = self._detector.prepare(picture, options.size)
        decoded = time.perf_counter()
        stages: dict[str, float] = {}
        [detections] = self._detector.detect([Job(canvas, resolved)], stages.__setitem__)
        times = (started, decoded, time.perf_counter())
        return self._result(picture, detections, times, stages.get("postprocess", 0.0))

    def _result(
        self, picture: Image, detections: Detections, times: tuple[float, float, float], postprocess: float
    ) -> ImageResult:
        """`times` of start, decoded, detected. The `postprocess` of tiles is not measured apart."""
        started, decoded, ended = times
        seconds = {
            "decode": decoded - started,
            "inference": ended - decoded - postprocess,
            "postprocess": postprocess,
            "total": ended - started,
        }
        card = self._detector.card
        return ImageResult(
            detections=detections,
            names=tuple(card.labels[label] for label in detections.labels),
            width=picture.width,
            height=picture.height,
            model=card.name,
            model_version=self._detector.version,
            timings_ms={stage: round(value * 1000, 3) for stage, value in seconds.items()},
        )


def resolve(options: DetectOptions, card: Card, classes: Classes) -> Options:
    """The detector's options: those that were typed, else those of the card; raises CommandFailed."""
    try:
        ids = classes.ids(options.class_tokens(classes.by_name))
        return Options.resolve(dict(options) | {"classes": ids, "roi": options.regions()}, card)
    except UnknownClass as error:
        names = ", ".join(classes.names.values())
        text = f"--classes: the model has no class {error.token!r}; it has {names}"
        raise CommandFailed(text, USAGE) from error


def load_client(settings: Settings, observe: Observe | None = None) -> LocalClient:
    """Load the model of the settings; `observe` is told of downloads. Raises CommandFailed."""
    return LocalClient(load_detector(settings, observe), Limits(settings.max_pixels))
