"""Training mode and targets of R-CNN and Fast R-CNN."""

from typing import TypeAlias

from torch import Tensor, nn

Target: TypeAlias = dict[str, Tensor]  # boxes (M, 4) float32 xyxy px, labels (M,) int64


def require_mode(part: nn.Module, training: bool) -> None:
    """Raise ValueError unless the network is in this mode, on which sampling, norms and dropout depend."""
    if part.training is not training:
        now, call = ("training", "eval()") if part.training else ("eval", "train()")
        raise ValueError(f"the network is in {now} mode; call {call} first")
