"""Networks by name: each is a torchvision `FasterRCNN`, so published weights load unchanged."""

from models.networks.imagenet import BACKBONE_WEIGHTS, pretrained_state
from models.networks.registry import ARCHITECTURES, build_network

__all__ = ["ARCHITECTURES", "BACKBONE_WEIGHTS", "build_network", "pretrained_state"]
