"""A detector in this process that answers as rcnn_client.Client does; `rcnn detect` takes either."""

import time
from collections.abc import Mapping
from typing import TypeVar, Unpack

import rcnn_client
from app.commands import USAGE, CommandFailed
from app.commands.shared.tile_option import tiling_of
from app.serving.loading import load
from app.settings.settings import Settings
from models.detections import Detections
from models.detector import Detector, Job
from models.images.decoder import Image, Limits, decode
from models.options import Options
from models.tiling.tiled_detect import detect_tiled, tiles_for
from models.tiling.tiles import Tiling
from models.zoo.classes import Classes, UnknownClass

T = TypeVar("T", int, float)


class LocalClient:
    """Decodes, detects and times one image after the other, without a queue."""

    def __init__(self, detector: Detector, limits: Limits) -> None:
        self._detector = detector
        self._limits = limits
        self._classes = Classes.of(detector.card.labels)

    def labels(self) -> Mapping[int, str]:
        """Id to name of the model's classes."""
        return self._classes.names

    def detect(self, image: bytes, **options: Unpack[rcnn_client.Options]) -> rcnn_client.Result:
        """Detections of one image file; raises ImageError, TooManyTiles, CommandFailed, MemoryError."""
        asked = self._options(options)
        size = options.get("size")
        started = time.perf_counter()
        if tiling := self._tiling(options):
            picture = decode(image, self._limits)
            if tiles_for(self._detector, picture, tiling, size):
                decoded = time.perf_counter()
                found = detect_tiled(self._detector, picture, asked, tiling, size)
                return self._result(picture, found, (started, decoded, time.perf_counter()), 0.0)
        picture = decode(image, self._limits, self._detector.card.canvas_limits(size))
        canvas = self._detector.prepare(picture, size)
        decoded = time.perf_counter()
        stages: dict[str, float] = {}
        [found] = self._detector.detect([Job(canvas, asked)], stages.__setitem__)
        times = (started, decoded, time.perf_counter())
        return self._result(picture, found, times, stages.get("postprocess", 0.0))

    def _tiling(self, given: rcnn_client.Options) -> Tiling | None:
        tile = given.get("tile")
        return None if tile is None else tiling_of(tile, given.get("tile_overlap"))

    def _result(
        self, picture: Image, found: Detections, times: tuple[float, float, float], postprocess: float
    ) -> rcnn_client.Result:
        """`times`: when it began, was decoded, was detected. `postprocess` of tiles is not told apart."""
        started, decoded, ended = times
        seconds = {
            "decode": decoded - started,
            "inference": ended - decoded - postprocess,
            "postprocess": postprocess,
            "total": ended - started,
        }
        card = self._detector.card
        return rcnn_client.Result(
            detections=found,
            names=tuple(card.labels[label] for label in found.labels),
            width=picture.width,
            height=picture.height,
            model=card.name,
            timings_ms={stage: round(value * 1000, 3) for stage, value in seconds.items()},
            model_version=self._detector.version,
        )

    def _options(self, given: rcnn_client.Options) -> Options:
        """What was asked for, over the card's defaults."""
        card = self._detector.card
        return Options(
            score_threshold=_or(given.get("score_threshold"), card.score_threshold),
            nms_threshold=_or(given.get("nms_threshold"), card.nms_threshold),
            max_detections=_or(given.get("max_detections"), card.max_detections),
            classes=self._class_ids(given),
            class_agnostic=given.get("class_agnostic", False),
        )

    def _class_ids(self, given: rcnn_client.Options) -> frozenset[int] | None:
        try:
            return self._classes.ids(given.get("classes", ()))
        except UnknownClass as error:
            all_of_them = ", ".join(self._classes.names.values())
            text = f"--classes: the model has no class {error.token!r}; it has {all_of_them}"
            raise CommandFailed(text, USAGE) from error


def _or(given: T | None, default: T) -> T:
    return default if given is None else given


def load_client(settings: Settings) -> LocalClient:
    """Load the model of the settings; raises CommandFailed with what to do."""
    try:
        return LocalClient(load(settings), Limits(settings.max_pixels))
    except (ValueError, OSError) as error:  # a card, its weights, or the device; the text says what to do
        raise CommandFailed(error) from error
