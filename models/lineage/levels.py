"""What both ancestors ask of a backbone's answer, and of the mode that the network is in."""

from collections import OrderedDict
from typing import TypeAlias

from torch import Tensor, nn

from models.networks.single_level import LEVEL

Target: TypeAlias = dict[str, Tensor]  # boxes (M, 4) float32 xyxy px, labels (M,) int64


def levels_of(features: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's answer as levels by name: those of a pyramid, or its one map."""
    return OrderedDict([(LEVEL, features)]) if isinstance(features, Tensor) else features


def require_mode(part: nn.Module, training: bool) -> None:
    """Raise ValueError unless the network is in this mode: its sampling, norms and dropout depend on it."""
    if part.training is not training:
        now, call = ("training", "eval()") if part.training else ("eval", "train()")
        raise ValueError(f"the network is in {now} mode; call {call} first")
