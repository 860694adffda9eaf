"""The parts, training mode and targets that R-CNN and Fast R-CNN share."""

from typing import TypeAlias

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from models.ops.roi_align import roi_align_config

Target: TypeAlias = dict[str, Tensor]  # boxes (M, 4) float32 xyxy px, labels (M,) int64


class RegionNetwork(nn.Module):
    """The backbone and the RoI heads of `network`, whose weights are shared with it."""

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.roi_heads = network.roi_heads
        self.transform = network.transform
        self.pooling = roi_align_config(network)


def require_mode(part: nn.Module, training: bool) -> None:
    """Raise ValueError unless the network is in this mode, on which sampling, norms and dropout depend."""
    if part.training is not training:
        now, call = ("training", "eval()") if part.training else ("eval", "train()")
        raise ValueError(f"the network is in {now} mode; call {call} first")
