"""Caches converted parts on disk: a start with a cached network takes a tenth of the time.

The key is a hash of the network's structure and weights, so stale parts are never read.
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
FORMAT = 2  # incremented when `conversion` changes its output for the same network
MAX_ENTRIES = 16  # converted networks; the least recently used is evicted first


def part_folder(network: FasterRCNN, cache_dir: Path) -> Path:
    """Where the network's parts are cached; equal networks have the same folder, and no others."""
    return cache_dir / FOLDER / _key(network)


def obtain_parts(network: FasterRCNN, folder: Path | None) -> Parts:
    """The network's parts from its folder; if missing, converted and written there. None: no cache."""
    if folder is None:
        return convert(network)
    if not folder.is_dir():
        return _convert_into(network, folder)
    try:
        parts = read_parts(folder)
        folder.touch()
    except (RuntimeError, OSError) as error:  # damaged, or just evicted by another process
        log.warning("converting the network again: %s", _first_line(error))
        shutil.rmtree(folder, ignore_errors=True)
        return _convert_into(network, folder)
    return parts


def _convert_into(network: FasterRCNN, folder: Path) -> Parts:
    """Convert, and write the parts to the folder atomically; if the disk is full they stay in memory."""
    parts = convert(network)
    partial = folder.with_name(f"{folder.name}.{uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
        write_parts(parts, partial)
        partial.rename(folder)
        parts = read_parts(folder)  # memory-mapped, so that torch's copy of the weights can be freed
        _evict(folder.parent)
    except (OSError, RuntimeError) as error:
        log.warning("the converted network could not be cached: %s", _first_line(error))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return parts


def _evict(folder: Path) -> None:
    kept = [path for path in folder.iterdir() if path.suffix != ".partial"]
    for old in sorted(kept, key=lambda path: path.stat().st_mtime, reverse=True)[MAX_ENTRIES:]:
        shutil.rmtree(old, ignore_errors=True)


def _key(network: FasterRCNN) -> str:
    digest = hashlib.sha256(f"{FORMAT} {ov.__version__} {torch.__version__}".encode())
    heads = network.roi_heads
    parts: list[nn.Module] = [network.backbone, network.rpn.head, heads.box_head, heads.box_predictor]
    digest.update(
        repr([*parts, heads.box_roi_pool.output_size]).encode()
    )  # what is not a weight: eps, strides
    for part in parts:
        for name, tensor in part.state_dict().items():
            digest.update(name.encode())
            digest.update(memoryview(tensor.detach().cpu().contiguous().numpy()).cast("B"))
    return digest.hexdigest()[:32]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
