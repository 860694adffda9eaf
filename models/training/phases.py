"""What a run trains: the whole network, or the RPN or the head alone (Ren et al. 2015, §3.2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList

from models.networks.levels import levels_of

Targets = list[dict[str, Tensor]]
Losses = dict[str, Tensor]
ComputeLosses = Callable[[FasterRCNN, list[Tensor], Targets], Losses]

PARTS = ("backbone", "rpn", "roi_heads")


@dataclass(frozen=True)
class Phase:
    """The parts of the network to train and their losses; the other parts are frozen."""

    losses: ComputeLosses
    parts: tuple[str, ...] = PARTS


class Objective(nn.Module):
    """The network and its losses as one module, which a step calls and which can be data-parallel."""

    def __init__(self, network: FasterRCNN, phase: Phase) -> None:
        super().__init__()
        self.network = network
        self._losses = phase.losses

    def forward(self, images: list[Tensor], targets: Targets) -> Losses:
        """The loss parts by name, of images (3, H, W) in 0..1 and their targets."""
        return self._losses(self.network, images, targets)


def set_trainable(network: FasterRCNN, parts: Sequence[str]) -> None:
    """Put `parts` into training mode and freeze the others, including the statistics of their norms."""
    network.train()
    for name in PARTS:
        part = network.get_submodule(name).requires_grad_(name in parts)
        part.train(name in parts)


def freeze_norms(network: FasterRCNN, prefix: str) -> None:
    """Freeze the pretrained norms under `prefix`, as small batches give poor statistics."""
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and name.startswith(prefix):
            module.requires_grad_(False).eval()


def joint_losses(network: FasterRCNN, images: list[Tensor], targets: Targets) -> Losses:
    """All four parts of the multi-task loss: approximate joint training."""
    losses: Losses = network(images, targets)
    return losses


def rpn_losses(network: FasterRCNN, images: list[Tensor], targets: Targets) -> Losses:
    """The objectness and box loss of the RPN."""
    canvas, scaled = network.transform(images, targets)
    _, losses = network.rpn(canvas, features_of(network, canvas), scaled)
    parts: Losses = losses
    return parts


def head_losses(proposer: FasterRCNN) -> ComputeLosses:
    """The class and box loss of the head on the proposals of another network, which is not trained."""
    proposer.eval()

    def losses(network: FasterRCNN, images: list[Tensor], targets: Targets) -> Losses:
        canvas, scaled = network.transform(images, targets)
        with torch.no_grad():
            proposals, _ = proposer.rpn(canvas, features_of(proposer, canvas))
        features = features_of(network, canvas)
        _, found = network.roi_heads(features, proposals, canvas.image_sizes, scaled)
        parts: Losses = found
        return parts

    return losses


def features_of(network: FasterRCNN, canvas: ImageList) -> dict[str, Tensor]:
    """The levels of the backbone by name."""
    return levels_of(network.backbone(canvas.tensors))


JOINT = Phase(joint_losses)
