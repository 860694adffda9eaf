"""Loads a network by its model's name, with the reported fallback of "auto"."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, FasterRCNN_ResNet50_FPN_Weights

from models.checkpoints.recognise import architecture_of
from models.networks import build_network
from models.networks.adjust import flip_input_channels
from models.zoo.cards import AUTO, Card, CardError
from models.zoo.catalogue import find_card
from models.zoo.configure import configure
from models.zoo.download import Downloads, PublishedFile, WeightsError, fetch, sha256_of
from models.zoo.weights import load_state, published, published_file

log = logging.getLogger(__name__)

PREFERRED = "coco-r50-fpn"
BUNDLED = "shapes"
DEMO_HINT = (
    f"this demo model knows only drawn shapes; for photos: `RCNN_MODEL={PREFERRED} rcnn serve`, which "
    "fetches 160 MB of weights once; `rcnn doctor` says what is missing"
)
"""What a user must know where the demo model serves because nothing else is there."""
MAX_SHOWN = 5  # differences named in an error
CLASSES_KEY = "roi_heads.box_predictor.cls_score.bias"
ANCHORS_KEY = "rpn.head.cls_logits.bias"

Resolve = Callable[[Card], PublishedFile | None]


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network in eval mode, its card and weights file.

    `fallback_reason`: why "auto" fell back to the demo model; then `hint` says what that is for.
    """

    network: FasterRCNN
    card: Card
    weights: Path | None  # None: untrained
    fallback_reason: str | None = None

    @property
    def hint(self) -> str | None:
        """What a user of the demo model must know; None for a model that was chosen."""
        return DEMO_HINT if self.fallback_reason is not None else None


def load_network(
    model: str,
    model_dir: Path | None,
    cache_dir: Path,
    resolve: Resolve = published_file,
    downloads: Downloads | None = None,
) -> LoadedNetwork:
    """Load a model by name, card path or "auto"; `resolve` returns the file to download for a card.

    `downloads`: how. Only "auto" falls back, if the published weights cannot be fetched.
    Raises CardError, WeightsError.
    """
    obtain = partial(_obtain, cache_dir=cache_dir, resolve=resolve, downloads=downloads)
    if model != AUTO:
        card = find_card(model, model_dir)
        if card.random_seed is not None:
            return LoadedNetwork(_untrained(card, card.random_seed), card, None)
        return _loaded(card, obtain(card))
    card = find_card(PREFERRED, model_dir)
    try:
        obtained = obtain(card)
    except WeightsError as error:
        log.warning("using the bundled model %s instead of %s: %s", BUNDLED, PREFERRED, error)
        log.warning(DEMO_HINT)
        reason = f"the weights of {PREFERRED} could not be fetched: {error.reason}"
        card = find_card(BUNDLED, model_dir)
        return _loaded(card, obtain(card), reason)
    return _loaded(card, obtained)


def _loaded(card: Card, obtained: tuple[Path, str | None], reason: str | None = None) -> LoadedNetwork:
    path, sha256 = obtained
    return LoadedNetwork(_load(card, path, sha256), card, path, reason)


def _obtain(
    card: Card, cache_dir: Path, resolve: Resolve, downloads: Downloads | None
) -> tuple[Path, str | None]:
    """The weights file and the SHA-256 still to be checked, None for a fetched file, which is checked."""
    source = resolve(card)
    if source is not None:
        path = fetch(source, cache_dir, downloads)
        if not source.sha256:
            _warn_without_hash(card, path)
        return path, None
    if card.weights_file is None:
        raise WeightsError(f"{card.name}: no address is known for {card.weights}")
    if card.sha256 is None and card.weights_file.is_file():
        _warn_without_hash(card, card.weights_file)
    return card.weights_file, card.sha256


def _warn_without_hash(card: Card, path: Path) -> None:
    log.warning(
        '%s has no sha256, so a damaged or exchanged weights file is not noticed; add: sha256 = "%s"',
        card.path or card.name,
        sha256_of(path),
    )


def _untrained(card: Card, seed: int) -> FasterRCNN:
    """The architecture with random weights: as fast and large as a trained network, but detects nothing."""
    log.warning("%s is untrained and detects nothing; train it with rcnn train", card.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(card).eval()


def _build(card: Card) -> FasterRCNN:
    try:
        return configure(build_network(card.architecture, len(card.labels)), card)
    except ValueError as error:
        raise CardError(f"{card.path or card.name}: {error}") from error


def _load(card: Card, path: Path, sha256: str | None) -> FasterRCNN:
    network = filled_network(card, load_state(path, sha256), path)
    _restore_epsilon(network, card)
    if card.preprocessing.channels == "bgr":
        flip_input_channels(network)
    return network.eval()


def filled_network(card: Card, state: dict[str, Tensor], path: Path) -> FasterRCNN:
    """The card's network with the state of the file `path`; raises CardError, WeightsError."""
    network = _build(card)
    differences = _fill(network, state)
    if differences:
        raise WeightsError(_misfit(card, path, state, differences))
    return network


def _fill(network: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Copy the state into the network; returns the differences, empty if all fits.

    Uses `load_state_dict`, which renames keys of torchvision's older files and accepts norms without the
    batch counter, which frozen norms lack.
    """
    try:
        result = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        return [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
    missing = [f"missing {key}" for key in result.missing_keys]
    return missing + [f"unexpected {key}" for key in result.unexpected_keys]


def _misfit(card: Card, path: Path, state: dict[str, Tensor], differences: list[str]) -> str:
    shown = "; ".join(differences[:MAX_SHOWN])
    more = f"; and {len(differences) - MAX_SHOWN} more" if len(differences) > MAX_SHOWN else ""
    return (
        f"{path} does not fit the card {card.name} (architecture {card.architecture}, "
        f"{len(card.labels)} labels with the background): {shown}{more}. "
        f"Set architecture and labels to those the weights were trained with{_recognised(state)}"
    )


def _recognised(state: dict[str, Tensor]) -> str:
    """What the weights look like: architecture, labels and anchors."""
    architecture = architecture_of(state)
    found = [] if architecture is None else [f"architecture {architecture}"]
    for key, what in ((CLASSES_KEY, "labels with the background"), (ANCHORS_KEY, "anchors a position")):
        if key in state:
            found.append(f"{len(state[key])} {what}")
    advice = "; for other anchors give the card [anchors] sizes and ratios" if ANCHORS_KEY in state else ""
    return f"; they look like {', '.join(found)}{advice}" if found else ""


def _restore_epsilon(network: nn.Module, card: Card) -> None:
    """Set the norms' epsilon to 0 for weights that were trained so.

    torchvision does the same (`overwrite_eps`) for these weights only: they predate pytorch/vision#2933.
    """
    if published(card) != FasterRCNN_ResNet50_FPN_Weights.COCO_V1:
        return
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
