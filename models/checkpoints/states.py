"""Finds the state dict in a checkpoint, under the keys and prefixes that training frameworks add."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import Checkpoint, read_checkpoint
from models.checkpoints.placeholders import Placeholder
from models.checkpoints.tensors import make_tensor
from models.checkpoints.unpickler import is_foreign

# Keys under which training scripts store the state, the first that is there. An averaged copy comes last: a
# script that keeps both evaluates "model".
WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state", "net", "network", "model_ema")
MAX_WRAPPERS = 3  # one in another
COMPILED = "_orig_mod."  # inserted by torch.compile wherever a module was compiled
TRAINING_STATE = {"optimizer", "optimizer_state_dict", "optimizer_states", "param_groups", "scaler"}
SHOWN = 3
SAVE_STATE = "save only the state dict: torch.save(network.state_dict(), path), or as safetensors"

Source = Literal["detectron2", "mmdetection", "torchvision", "unknown"]

# A name that only weights of that library have.
_MARKS: dict[Source, tuple[str, ...]] = {
    "detectron2": ("proposal_generator.rpn_head.", "backbone.bottom_up."),
    "mmdetection": ("rpn_head.rpn_conv.", "roi_head.bbox_head.", "bbox_head.fc_cls."),
    "torchvision": ("rpn.head.", "roi_heads.box_predictor.", "backbone.body."),
}
# Parts of networks that answer more than boxes, and what the networks are called.
_OTHER_TASKS = {
    "roi_heads.mask_": "Mask R-CNN",
    "roi_head.mask_head.": "Mask R-CNN",
    "roi_heads.keypoint_": "Keypoint R-CNN",
    "roi_heads.box_predictor.0.": "Cascade R-CNN",
    "roi_head.bbox_head.0.": "Cascade R-CNN",
    "bbox_head.retina_": "RetinaNet",
    "head.classification_head.": "RetinaNet, an FCOS or an SSD",
}


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint, on the CPU, without wrappers and prefixes; raises CheckpointError."""
    return find_state(read_checkpoint(path))


def find_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The state dict in a checkpoint that was read; raises CheckpointError."""
    content = _unwrapped(checkpoint.content)
    state = {name: _tensor(name, value, checkpoint) for name, value in content.items()}
    state = without_prefix(state)
    for part, network in _OTHER_TASKS.items():
        if any(name.startswith(part) for name in state):
            raise CheckpointError(f"weights of a {network} ({part}…); only Faster R-CNN can be served")
    return state


def source_of(names: Mapping[str, object]) -> Source:
    """The library whose names these are."""
    for source, marks in _MARKS.items():
        if any(name.startswith(marks) for name in names):
            return source
    return "unknown"


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's own names: without prefixes of wrappers, and without what lies beside the network."""
    names = {name: name.replace(COMPILED, "") for name in state}
    prefixes = Counter(_prefix(name) for name in names.values() if "backbone." in name)
    if not prefixes:
        return {_without_module(name): state[old] for old, name in names.items()}
    # A copy of the network, as of averaged weights, is as long: the shortest prefix is the network itself.
    most = max(prefixes.values())
    prefix = min((known for known, count in prefixes.items() if count == most), key=len)
    return {name[len(prefix) :]: state[old] for old, name in names.items() if name.startswith(prefix)}


def _prefix(name: str) -> str:
    """What precedes the outermost "backbone." of a name."""
    before = name.partition("backbone.")[0]
    return before if not before or before.endswith(".") else name.rpartition("backbone.")[0]


def _without_module(name: str) -> str:
    return name.removeprefix("module.")


def _unwrapped(content: object) -> Mapping[str, object]:
    for _ in range(MAX_WRAPPERS):
        key = next((key for key in WRAPPERS if _holds(content, key)), None) or _only_network(content)
        if key is None:
            break
        content = content[key]  # type: ignore[index]  # a mapping, as it holds the key
    if isinstance(content, Placeholder):
        raise CheckpointError(
            f"rejected, as it contains a pickled object ({content.qualified}) and not a state dict; reading "
            f"it could run code; {SAVE_STATE}"
        )
    if not isinstance(content, Mapping):
        raise _no_state(f"a {_kind(content)}")
    if not content:
        raise _no_state("nothing")
    if TRAINING_STATE & {key for key in content if isinstance(key, str)}:
        raise CheckpointError(
            "the state of an optimizer without the network's weights; save the network's state dict too"
        )
    return content


def _only_network(content: object) -> str | None:
    """The key of the one value that has a network's names, under whatever key a script put it."""
    if not isinstance(content, Mapping):
        return None
    found = [key for key, value in content.items() if isinstance(value, Mapping) and _has_network(value)]
    return found[0] if len(found) == 1 and isinstance(found[0], str) else None


def _has_network(content: Mapping[object, object]) -> bool:
    names = any(isinstance(key, str) and "backbone." in key for key in content)
    return names or any(_holds(content, key) for key in WRAPPERS)


def _holds(content: object, key: str) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(key), Mapping | Placeholder)


def _tensor(name: object, value: object, checkpoint: Checkpoint) -> Tensor:
    tensor = make_tensor(value, checkpoint.read_storage)
    if isinstance(name, str) and tensor is not None:
        return tensor
    if is_foreign(value):
        raise CheckpointError(
            f"rejected, as it contains more than tensors ({getattr(value, 'qualified', '')}) and reading it "
            f"could run code; {SAVE_STATE}"
        )
    raise _no_state(f"{name!r} of type {_kind(value) if tensor is None else 'Tensor'}")


def _kind(value: object) -> str:
    name = type(value).__name__
    return "Tensor" if name in ("TensorRef", "ArrayRef") else "dict" if "Dict" in name else name


def _no_state(content: str) -> CheckpointError:
    wrappers = ", ".join(repr(key) for key in WRAPPERS[:SHOWN])
    return CheckpointError(
        f"contains {content} instead of a state dict "
        f"(names to tensors, at the top level or under {wrappers} …)"
    )
