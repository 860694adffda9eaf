"""What is evaluated: a model in this process, or the model of a service."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands import CommandFailed
from app.commands.shared.model import load_detector
from app.schemas.options import DetectOptions
from app.settings.settings import Settings
from models.detections import Detections
from models.evaluation.predictions import DetectionFailed, ImageDetections, detect_each
from models.images.decoder import Limits, UnreadableImage
from models.options import Options

if TYPE_CHECKING:
    from models.detector import Detector
    from models.zoo.download import Observe
    from rcnn_client import Client

# Statuses of one image alone: it cannot be read, or exceeds the service's limits. Any other ends the run.
UNREADABLE_STATUSES, TOO_LARGE = (400, 415), 413

Ask = Callable[[Sequence[Path], Options], Iterator[ImageDetections]]


@dataclass(frozen=True)
class ModelFacts:
    """A model: its card's name, labels (index = id) and thresholds, its engine, precision and device."""

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
class AnswerSource:
    """A model, and the function that detects with it: files and options in, answers out in order."""

    model: ModelFacts
    ask: Ask


def local_source(settings: Settings, views: DetectOptions, observe: "Observe | None" = None) -> AnswerSource:
    """The model of the settings, in this process; `observe` is told of downloads. Raises CommandFailed."""
    from models.evaluation.local import best_batch, detect_files, detect_files_in_tiles

    detector = load_detector(settings, observe)
    limits, batch = Limits(settings.max_pixels), best_batch(detector)
    tiling = views.tiling()

    def ask(files: Sequence[Path], options: Options) -> Iterator[ImageDetections]:
        if tiling is None:
            return detect_files(detector, files, options, limits, batch)
        return detect_files_in_tiles(detector, files, options, limits, tiling)

    return AnswerSource(facts_of(detector), ask)


def facts_of(detector: "Detector") -> ModelFacts:
    """The facts of a model in this process."""
    card = detector.card
    return ModelFacts(
        name=card.name,
        labels=card.labels,
        score_threshold=card.score_threshold,
        nms_threshold=card.nms_threshold,
        engine=detector.engine_name,
        precision=detector.precision,
        device=detector.device,
        fallback_reason=detector.fallback_reason,
    )


def service_source(client: "Client", url: str, views: DetectOptions, name: str | None = None) -> AnswerSource:
    """A model of a service, None for its default one; raises ClientError, CommandFailed."""
    model = _service_facts(client, url, name)

    def ask(files: Sequence[Path], options: Options) -> Iterator[ImageDetections]:
        return detect_each(lambda file: _detect(client, file, options, views, name), files)

    return AnswerSource(model, ask)


def _service_facts(client: "Client", url: str, name: str | None) -> ModelFacts:
    from rcnn_client import NotAnAnswer

    try:
        catalogue, health = client.get("models"), client.get("health")
        if catalogue["loaded"] is None:
            raise CommandFailed(f"{url} has no model loaded: it is {health['status']}; wait, or see its log")
        chosen = name or catalogue["loaded"]
        loaded = {card["name"]: card for card in catalogue["models"] if card["loaded"]}
        if chosen not in loaded:
            raise CommandFailed(f"{url} has no model {chosen!r} loaded; loaded are {', '.join(loaded)}")
        card = loaded[chosen]
        facts = next((one for one in health.get("models", ()) if one["name"] == chosen), health)
        return ModelFacts(
            name=str(card["name"]),
            labels=tuple(card["labels"]),
            score_threshold=float(card["score_threshold"]),
            nms_threshold=float(card["nms_threshold"]),
            engine=facts["engine"],
            precision=facts["precision"],
            device=facts["device"],
            url=url,
            fallback_reason=health["fallback_reason"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NotAnAnswer(f"{url} does not say which model it runs; is it rcnn-serve?") from error


def _detect(
    client: "Client", file: Path, options: Options, views: DetectOptions, model: str | None
) -> Detections:
    from rcnn_client import Refused

    try:
        result = client.detect(
            file,
            score_threshold=options.score_threshold,
            nms_threshold=options.nms_threshold,
            max_detections=options.max_detections,
            classes=sorted(options.classes or ()),
            tile=views.tile,
            flip=views.flip,
            model=model,
        )
    except Refused as error:
        if error.status in UNREADABLE_STATUSES:
            raise UnreadableImage(str(error)) from error
        if error.status == TOO_LARGE:
            raise DetectionFailed(str(error)) from error
        raise
    return Detections(result.boxes, result.labels, result.scores)
