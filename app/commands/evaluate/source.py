"""Who is evaluated: a model in this process, or the one that a service runs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands import CommandFailed
from app.commands.shared.service_client import ServiceClient
from app.commands.shared.tile_option import Tile, tiling_of
from app.serving.loading import load
from app.settings.settings import Settings
from models.detections import Detections
from models.evaluation.predictions import DetectionFailed, ImageDetections, detect_each
from models.images.decoder import Limits
from models.options import Options
from rcnn_client import Client, NotAnAnswer, Refused

if TYPE_CHECKING:
    from models.detector import Detector

# Statuses about one image alone. Any other would cost AP for a reason that is not the model's: the run ends.
ABOUT_ONE_IMAGE = (400, 413, 415)

Ask = Callable[[Sequence[Path], Options], Iterator[ImageDetections]]


@dataclass(frozen=True)
class About:
    """The model: its card's name, labels (index = id) and thresholds, and what computes it where."""

    name: str
    labels: tuple[str, ...]
    score_threshold: float
    nms_threshold: float
    engine: str | None
    precision: str | None
    device: str | None
    url: str | None = None
    fallback_reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Source:
    """A model and how to ask it: files and options in, answers out as they come, each naming its file."""

    about: About
    ask: Ask


def load_model(settings: Settings, tile: Tile = None) -> Source:
    """The model of the settings, in this process; raises CommandFailed with what to do."""
    from models.evaluation.local import best_batch, detect_files, detect_files_in_tiles

    detector = load_here(settings)
    limits, batch = Limits(settings.max_pixels), best_batch(detector)

    def ask(files: Sequence[Path], options: Options) -> Iterator[ImageDetections]:
        if tile is None:
            return detect_files(detector, files, options, limits, batch)
        return detect_files_in_tiles(detector, files, options, limits, tiling_of(tile))

    return Source(describe(detector), ask)


def load_here(settings: Settings) -> "Detector":
    """The detector of the settings; raises CommandFailed with what to do."""
    try:
        return load(settings)
    except (ValueError, OSError) as error:  # a card, its weights, or the device; the text says what to do
        raise CommandFailed(error) from error


def describe(detector: "Detector") -> About:
    """What is known of a model in this process."""
    card = detector.card
    return About(
        name=card.name,
        labels=card.labels,
        score_threshold=card.score_threshold,
        nms_threshold=card.nms_threshold,
        engine=detector.engine_name,
        precision=detector.precision,
        device=detector.device,
        fallback_reason=detector.fallback_reason,
    )


def ask_service(client: ServiceClient, url: str, tile: Tile = None) -> Source:
    """The model that a service runs; raises ClientError, CommandFailed."""
    about = _about(client, url)

    def ask(files: Sequence[Path], options: Options) -> Iterator[ImageDetections]:
        return detect_each(lambda file: _detect(client, file, options, tile), files)

    return Source(about, ask)


def _about(client: ServiceClient, url: str) -> About:
    try:
        listed, health = client.get("models"), client.get("health")
        if listed["loaded"] is None:
            raise CommandFailed(f"{url} has no model loaded: it is {health['status']}; wait, or see its log")
        [card] = [card for card in listed["models"] if card["loaded"]]
        return About(
            name=str(card["name"]),
            labels=tuple(card["labels"]),
            score_threshold=float(card["score_threshold"]),
            nms_threshold=float(card["nms_threshold"]),
            engine=health["engine"],
            precision=health["precision"],
            device=health["device"],
            url=url,
            fallback_reason=health["fallback_reason"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NotAnAnswer(f"{url} does not say which model it runs; is it rcnn-serve?") from error


def _detect(client: Client, file: Path, options: Options, tile: Tile) -> Detections:
    try:
        result = client.detect(
            file,
            score_threshold=options.score_threshold,
            nms_threshold=options.nms_threshold,
            max_detections=options.max_detections,
            classes=sorted(options.classes or ()),
            tile=tile,
        )
    except Refused as error:
        if error.status in ABOUT_ONE_IMAGE:
            raise DetectionFailed(str(error)) from error
        raise
    return result.detections
