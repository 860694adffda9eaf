"""Networks by name: each is a torchvision `FasterRCNN`, so published weights load unchanged."""

from models.networks.registry import ARCHITECTURES, build_network

__all__ = ["ARCHITECTURES", "build_network"]
