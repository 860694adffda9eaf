"""The initial weights of a training run: random, ImageNet's, or those of a model with other classes."""

import logging
from pathlib import Path

from torch import Tensor
from torchvision.models import get_weight
from torchvision.models.detection import FasterRCNN

from models.networks.imagenet import BACKBONE_WEIGHTS, pretrained_state
from models.zoo.catalogue import find_card
from models.zoo.download import PublishedFile, WeightsError, fetch
from models.zoo.loading import load_network
from models.zoo.weights import load_state

SCRATCH, IMAGENET = "scratch", "imagenet"
PREDICTOR = "roi_heads.box_predictor."  # its layers depend on the classes

logger = logging.getLogger(__name__)


def start_from(start: str, network: FasterRCNN, architecture: str, cache_dir: Path) -> None:
    """Load initial weights: "scratch", "imagenet", or a model's name or card of the same architecture.

    The predictor of a model is kept only if it has as many classes. Raises CardError or WeightsError.
    """
    if start == SCRATCH:
        return
    state = (
        _imagenet(architecture, cache_dir) if start == IMAGENET else _model(start, architecture, cache_dir)
    )
    own = network.state_dict()
    fits = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    unused = [name for name in state if name not in fits and not name.startswith(PREDICTOR)]
    if unused:
        raise WeightsError(
            f"{start} does not fit {architecture}: {', '.join(unused[:5])} differ; choose another"
        )
    network.load_state_dict(own | fits)
    logger.info("%d of %d tensors come from %s", len(fits), len(own), start)


def trained_norms(start: str) -> str | None:
    """The prefix of the modules with trained norms in these initial weights; None: there are none."""
    return {SCRATCH: None, IMAGENET: "backbone.body."}.get(start, "")


def _imagenet(architecture: str, cache_dir: Path) -> dict[str, Tensor]:
    if architecture not in BACKBONE_WEIGHTS:
        known = ", ".join(sorted(BACKBONE_WEIGHTS))
        raise WeightsError(f"{architecture} has no ImageNet weights; --from {SCRATCH}, or one of: {known}")
    url = str(get_weight(BACKBONE_WEIGHTS[architecture][0]).url)
    name = url.rpartition("/")[2]
    prefix = name.removesuffix(".pth").rpartition("-")[2]
    return pretrained_state(
        architecture, load_state(fetch(PublishedFile(url, name, prefix), cache_dir), None)
    )


def _model(start: str, architecture: str, cache_dir: Path) -> dict[str, Tensor]:
    card = find_card(start, None)
    if card.architecture != architecture:
        raise WeightsError(
            f"{start} is a {card.architecture}, not a {architecture}; give --architecture {card.architecture}"
        )
    state: dict[str, Tensor] = load_network(start, None, cache_dir).network.state_dict()
    return state
