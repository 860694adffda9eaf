"""Weights files: a card's published file, reading without running code, and writing."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from uuid import uuid4

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_weight

from models.checkpoints.errors import CheckpointError
from models.checkpoints.states import read_state, source_of
from models.zoo.cards import Card
from models.zoo.download import PARTIAL, PublishedFile, WeightsError, sha256_of

NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
LONGEST_STEM, LONGEST_SUFFIX, ADDRESS_DIGITS = 80, 12, 12
MB = 1 << 20  # as torchvision counts the size of a file
FOREIGN = ("detectron2", "mmdetection")  # libraries whose weights `rcnn import` converts


def published(card: Card) -> WeightsEnum | None:
    """The torchvision weights named by a card, None for a file; raises WeightsError for an unknown name."""
    if card.published_weights is None:
        return None
    try:
        return get_weight(card.published_weights)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{card.path or card.name}: torchvision has no weights {card.published_weights!r}; "
            'name one as in "FasterRCNN_ResNet50_FPN_Weights.COCO_V1"'
        ) from error


def published_file(card: Card) -> PublishedFile | None:
    """The file to download for the card's weights, None for a local one; raises WeightsError."""
    if card.remote_weights is not None:
        return _remote_file(card.remote_weights, card.sha256)
    weights = published(card)
    if weights is None:
        return None
    url = str(weights.url)
    file_name = urlsplit(url).path.rpartition("/")[2]
    # torchvision's file names end with the first eight hex digits of the file's hash.
    match = re.search(r"-([0-9a-f]{8,64})\.pth$", file_name)
    prefix = match.group(1) if match else ""
    if not (prefix or card.sha256):
        raise WeightsError(f"{card.path or card.name}: {file_name} has no hash; set its sha256 in the card")
    if card.sha256 and not card.sha256.startswith(prefix):
        raise WeightsError(f"{card.path or card.name}: sha256 must start with {prefix}, as in {file_name}")
    return PublishedFile(url, file_name, card.sha256 or prefix)


def _remote_file(address: str, sha256: str | None) -> PublishedFile:
    """The file of an address; its name in the cache is that of the address with a hash of it."""
    name = PurePosixPath(urlsplit(address).path).name
    stem, _, suffix = name.rpartition(".")
    tag = hashlib.sha256(address.encode()).hexdigest()[:ADDRESS_DIGITS]
    plain = NOT_IN_FILE_NAMES.sub("-", stem or suffix)[:LONGEST_STEM]
    file_name = f"{plain}.{tag}.{NOT_IN_FILE_NAMES.sub('-', suffix)[:LONGEST_SUFFIX]}"
    return PublishedFile(address, file_name, sha256 or "")


def weights_bytes(card: Card, cache_dir: Path) -> int:
    """The size of a card's weights: of the file, or as published before it is fetched; 0 if not known."""
    try:
        source, weights = published_file(card), published(card)
    except WeightsError:
        return 0  # the load says why
    path = cache_dir / source.file_name if source is not None else card.weights_file
    if path is not None and path.is_file():
        return path.stat().st_size
    return round(float(weights.meta.get("_file_size", 0)) * MB) if weights is not None else 0


def load_state(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """The state dict of a checkpoint under torchvision's names, on the CPU, floats as float32.

    Reads tensors and arrays, whatever wraps them, and runs nothing in the file. Raises WeightsError, also
    for values that are not finite.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; put it there, or correct `weights` in the card")
    _check_hash(path, sha256)
    try:
        state = read_state(path)
    except CheckpointError as error:
        raise WeightsError(f"{path}: {error}") from error
    if (source := source_of(state)) in FOREIGN:
        raise WeightsError(
            f"{path}: weights of {source}, which names and orders them otherwise; "
            f"make a card with `rcnn import {path} --out DIR` and serve that"
        )
    state = {name: _widened(tensor) for name, tensor in state.items()}
    _check_finite(state, path)
    return state


def save_weights(network: nn.Module, path: Path, half: bool) -> str:
    """Write the network's weights as safetensors; returns their SHA-256 in hex, for the card.

    `half` stores the large tensors as float16; vectors (biases, norm statistics) stay float32, as they are
    small and may exceed float16's range. Batch counters are omitted. Raises WeightsError.
    """
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: weights are written as .safetensors; use that suffix")
    state = {
        name: _stored(tensor, half, name)
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    partial = path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL}")
    try:
        partial.write_bytes(save(state))
        partial.replace(path)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be written: {error}; choose an existing folder on a disk with free space"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return sha256_of(path)


def _check_hash(path: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    digest = sha256_of(path)
    if digest != sha256:
        raise WeightsError(
            f"{path}: its SHA-256 is {digest}, the card says {sha256}; "
            "get the file again, or correct the card if the file is the right one"
        )


def _check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise WeightsError for NaN and infinite values: such a network detects nothing, and says nothing."""
    faulty = {name: count for name, tensor in state.items() if (count := not_finite(tensor))}
    if not faulty:
        return
    name, count = next(iter(faulty.items()))
    others = f", and so do {len(faulty) - 1} other tensors" if len(faulty) > 1 else ""
    raise WeightsError(
        f"{path}: {name} holds {count} of {state[name].numel()} values that are not finite (NaN or "
        f"infinite){others}; get the file again, or use an earlier checkpoint of a training that diverged"
    )


def not_finite(tensor: Tensor) -> int:
    """The number of NaN and infinite values; one pass over a tensor without any, as its sum is finite."""
    if not tensor.is_floating_point() or torch.isfinite(tensor.sum()):
        return 0
    return int((~torch.isfinite(tensor)).sum())


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _stored(tensor: Tensor, half: bool, name: str) -> Tensor:
    tensor = tensor.detach().cpu()
    if half and tensor.is_floating_point() and tensor.ndim > 1:
        tensor = tensor.half()
    if not_finite(tensor):
        raise WeightsError(f"{name} holds values that are not finite as {tensor.dtype}; not saved")
    return tensor.contiguous().clone()
