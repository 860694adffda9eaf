"""The initial weights of a training run: random, ImageNet's, or those of a model with other classes."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor
from torchvision.models import get_weight
from torchvision.models.detection import FasterRCNN

from models.networks.imagenet import BACKBONE_WEIGHTS, pretrained_state
from models.training.resume import OptionError
from models.zoo.cards import Card, CardError
from models.zoo.catalogue import find_card
from models.zoo.download import Downloads, PublishedFile, WeightsError, fetch
from models.zoo.loading import load_network
from models.zoo.weights import load_state, published_file

SCRATCH, IMAGENET = "scratch", "imagenet"
DEFAULT = "small"  # architecture
PREDICTOR = "roi_heads.box_predictor."  # its layers depend on the classes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartPoint:
    """Initial weights: "scratch", "imagenet", or a model's name or card; and where models are looked for."""

    start: str
    model_dir: Path | None
    cache_dir: Path
    downloads: Downloads = field(default_factory=Downloads)

    @property
    def architecture(self) -> str:
        """The architecture of the model; of "scratch" and "imagenet" the smallest. Raises OptionError."""
        return DEFAULT if self.start in (SCRATCH, IMAGENET) else self.card().architecture

    @property
    def trained_norms(self) -> str | None:
        """The prefix of the modules with trained norms in these weights; None: there are none."""
        if self.start in (SCRATCH, IMAGENET):
            return {SCRATCH: None, IMAGENET: "backbone.body."}[self.start]
        return "" if self.card().random_seed is None else None

    def card(self) -> Card:
        """The model's card; raises OptionError."""
        try:
            return find_card(self.start, self.model_dir)
        except CardError as error:
            raise OptionError(f"--from {self.start}: {error}; or {SCRATCH}, or {IMAGENET}") from error


def start_from(point: StartPoint, network: FasterRCNN, architecture: str) -> None:
    """Load initial weights; the predictor of a model is kept only if it has as many classes.

    Raises OptionError, or WeightsError for a file.
    """
    start = point.start
    if start == SCRATCH:
        return
    state = _imagenet(point, architecture) if start == IMAGENET else _model(point, architecture)
    own = network.state_dict()
    fits = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    unused = [name for name in state if name not in fits and not name.startswith(PREDICTOR)]
    if unused:
        raise WeightsError(
            f"{start} does not fit {architecture}: {', '.join(unused[:5])} differ; choose another"
        )
    network.load_state_dict(own | fits)
    logger.info("%d of %d tensors come from %s", len(fits), len(own), start)


def fetch_start(point: StartPoint, architecture: str) -> None:
    """Download what the start needs, so that it is in the cache; raises as `start_from`."""
    if point.start == IMAGENET:
        _imagenet_file(point, architecture)
    elif point.start != SCRATCH:
        source = published_file(_matching_card(point, architecture))
        if source is not None:
            fetch(source, point.cache_dir, point.downloads)


def _imagenet(point: StartPoint, architecture: str) -> dict[str, Tensor]:
    return pretrained_state(architecture, load_state(_imagenet_file(point, architecture), None))


def _imagenet_file(point: StartPoint, architecture: str) -> Path:
    if architecture not in BACKBONE_WEIGHTS:
        known = ", ".join(sorted(BACKBONE_WEIGHTS))
        raise OptionError(f"{architecture} has no ImageNet weights; --from {SCRATCH}, or one of: {known}")
    url = str(get_weight(BACKBONE_WEIGHTS[architecture][0]).url)
    name = url.rpartition("/")[2]
    prefix = name.removesuffix(".pth").rpartition("-")[2]
    return fetch(PublishedFile(url, name, prefix), point.cache_dir, point.downloads)


def _model(point: StartPoint, architecture: str) -> dict[str, Tensor]:
    _matching_card(point, architecture)
    loaded = load_network(point.start, point.model_dir, point.cache_dir, downloads=point.downloads)
    state: dict[str, Tensor] = loaded.network.state_dict()
    return state


def _matching_card(point: StartPoint, architecture: str) -> Card:
    card = point.card()
    if card.architecture != architecture:
        raise OptionError(
            f"{point.start} is a {card.architecture}, not a {architecture}; "
            f"give --architecture {card.architecture}, or leave it out"
        )
    return card
