"""Weights files: where a card's lie, reading them without running code, and writing our own."""

import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_weight

from models.zoo.cards import Card
from models.zoo.download import PARTIAL, FetchLimits, Source, WeightsError, fetch, sha256_of

__all__ = [
    "FetchLimits",
    "Source",
    "WeightsError",
    "fetch",
    "load_state",
    "locate",
    "published",
    "save_weights",
    "sha256_of",
    "source_of",
]

WRAPPERS = ("model", "state_dict")  # the keys under which common training scripts keep the state

# What reading a damaged or hostile file raises, found by feeding it thousands of both.
UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    AssertionError,
    struct.error,
    OSError,
)


def published(card: Card) -> WeightsEnum | None:
    """The torchvision weights that a card names, None for a file; raises WeightsError for an unknown name."""
    if card.published_weights is None:
        return None
    try:
        return get_weight(card.published_weights)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{card.path or card.name}: torchvision has no weights {card.published_weights!r}; "
            'name one as in "FasterRCNN_ResNet50_FPN_Weights.COCO_V1"'
        ) from error


def source_of(card: Card) -> Source | None:
    """Where the card's weights are published, None for a file of the user's; raises WeightsError."""
    weights = published(card)
    if weights is None:
        return None
    url = str(weights.url)
    file_name = urlsplit(url).path.rpartition("/")[2]
    # torchvision ends its file names with the first eight hex digits of the file's hash.
    found = re.search(r"-([0-9a-f]{8,64})\.pth$", file_name)
    prefix = found.group(1) if found else ""
    if not (prefix or card.sha256):
        raise WeightsError(f"{card.path or card.name}: {file_name} says no hash; give its sha256 in the card")
    if card.sha256 and not card.sha256.startswith(prefix):
        raise WeightsError(f"{card.path or card.name}: sha256 must start with {prefix}, as in {file_name}")
    return Source(url, file_name, card.sha256 or prefix)


def locate(card: Card, cache_dir: Path) -> Path | None:
    """The card's weights if they lie on this machine; their hash is checked on loading, not here."""
    source = source_of(card)
    path = card.weights_file if source is None else cache_dir / source.file_name
    return path if path is not None and path.is_file() else None


def load_state(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """The state dict of a .safetensors, .pt or .pth file, on the CPU, floats as float32.

    Reads tensors alone: a pickle that names anything else is refused before any of it runs. A state under
    "model" or "state_dict" is unwrapped. Raises WeightsError.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; put it there, or correct the card's weights")
    _check_hash(path, sha256)
    loaded = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    return {name: _widened(tensor) for name, tensor in _unwrapped(loaded, path).items()}


def save_weights(network: nn.Module, path: Path, half: bool) -> str:
    """Write the network's weights as safetensors; their SHA-256 in hex, for the card.

    `half` stores the large tensors as float16; vectors (biases, norm statistics) stay float32, as they weigh
    nothing and may lie outside float16's range. Batch counters are left out. Raises WeightsError.
    """
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: weights are written as .safetensors; choose that suffix")
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
            f"{path} cannot be written: {error}; choose a folder that exists and has room"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return sha256_of(path)


def _check_hash(path: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    found = sha256_of(path)
    if found != sha256:
        raise WeightsError(
            f"{path}: its SHA-256 is {found}, the card says {sha256}; "
            "get the file again, or correct the card if the file is the right one"
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_pickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_archive(path))
    except UNREADABLE as error:
        # PyTorch's own text advises to switch the protection off: name the culprit, leave the advice.
        culprit = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
        if culprit is None:
            raise _damaged(path, error) from error
        raise WeightsError(
            f"{path}: refused, as it holds more than tensors ({culprit.group(1)}) and reading it could "
            "run code; save the state dict alone: torch.save(network.state_dict(), path), or as safetensors"
        ) from error


def _is_archive(path: Path) -> bool:
    """Whether the file is a zip archive: those from before PyTorch 1.6 are not, and cannot be mapped."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = (str(error).splitlines() or [""])[0][:200]
    return WeightsError(
        f"{path}: not a readable {path.suffix} weights file ({type(error).__name__}: {reason}); "
        "get the file again"
    )


def _unwrapped(loaded: object, path: Path) -> Mapping[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping):
        raise _no_state(path, f"a {type(loaded).__name__}")
    if not loaded:
        raise _no_state(path, "nothing")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise _no_state(path, f"{name!r} of type {type(tensor).__name__}")
    return loaded


def _no_state(path: Path, found: str) -> WeightsError:
    wrappers = " or ".join(repr(key) for key in WRAPPERS)
    return WeightsError(
        f"{path}: holds {found} where a state dict is expected "
        f"(names to tensors, at the top or under {wrappers})"
    )


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _stored(tensor: Tensor, half: bool, name: str) -> Tensor:
    tensor = tensor.detach().cpu()
    if half and tensor.is_floating_point() and tensor.ndim > 1:
        tensor = tensor.half()
    if not torch.isfinite(tensor).all():
        raise WeightsError(f"{name} holds values that are not finite as {tensor.dtype}; not saved")
    return tensor.contiguous().clone()
