"""Converted parts kept on disk: a start that finds its network there takes a tenth of the time.

The key is a hash of the network's structure and of every weight, so that no stale parts are ever read.
"""

import hashlib
import logging
import shutil
from pathlib import Path
from uuid import uuid4

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from models.engines.conversion import Parts, convert, read_parts, write_parts
from models.engines.openvino_import import ov

log = logging.getLogger(__name__)

FOLDER = "openvino"
FORM = 2  # raised when `conversion` makes something else of the same network
KEPT = 8  # conversions; the one used longest ago goes first


def obtain_parts(network: FasterRCNN, cache_dir: Path | None) -> Parts:
    """The network's parts: from the cache where it has them, else converted, and left there for the next."""
    if cache_dir is None:
        return convert(network)
    folder = cache_dir / FOLDER / _key(network)
    if not folder.is_dir():
        return _convert_into(network, folder)
    try:
        parts = read_parts(folder)
        folder.touch()
    except (RuntimeError, OSError) as error:  # damaged, or another start has just cleared it away
        log.warning("converting the network again: %s", _first_line(error))
        shutil.rmtree(folder, ignore_errors=True)
        return _convert_into(network, folder)
    return parts


def _convert_into(network: FasterRCNN, folder: Path) -> Parts:
    """Convert, and put the parts in the folder at one stroke; without room for it they stay in memory."""
    parts = convert(network)
    partial = folder.with_name(f"{folder.name}.{uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
        write_parts(parts, partial)
        partial.rename(folder)
        parts = read_parts(folder)  # mapped from the files, so that torch's copy of the weights can go
        _clear(folder.parent)
    except (OSError, RuntimeError) as error:
        log.warning("the converted network is not kept for the next start: %s", _first_line(error))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return parts


def _clear(folder: Path) -> None:
    kept = [path for path in folder.iterdir() if path.suffix != ".partial"]
    for old in sorted(kept, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _key(network: FasterRCNN) -> str:
    digest = hashlib.sha256(f"{FORM} {ov.__version__} {torch.__version__}".encode())
    heads = network.roi_heads
    parts: list[nn.Module] = [network.backbone, network.rpn.head, heads.box_head, heads.box_predictor]
    digest.update(repr([*parts, heads.box_roi_pool.output_size]).encode())  # eps, strides: what is no weight
    for part in parts:
        for name, tensor in part.state_dict().items():
            digest.update(name.encode())
            digest.update(memoryview(tensor.detach().cpu().contiguous().numpy()).cast("B"))
    return digest.hexdigest()[:32]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
