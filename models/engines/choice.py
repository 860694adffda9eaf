"""Which engine, device and precision a start-up gets: every `auto` is decided here."""

from dataclasses import dataclass

import torch
from torchvision.models.detection import FasterRCNN

from models.engines.protocol import Engine
from models.engines.torch_engine import TorchEngine

ENGINES = ("torch",)


class EngineUnavailable(ValueError):
    """What was asked for does not exist on this machine; the message names what does."""


@dataclass(frozen=True)
class EngineChoice:
    """Names as in the settings: `auto` or a definite one; threads 0 means one a core."""

    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    threads: int = 0


def build_engine(network: FasterRCNN, choice: EngineChoice) -> Engine:
    """Put the network's static parts on the chosen device."""
    if choice.engine not in ("auto", *ENGINES):
        raise EngineUnavailable(
            f"engine {choice.engine!r} is not part of this version; "
            f"set RCNN_ENGINE to auto or {', '.join(ENGINES)}"
        )
    device = choose_device(choice.device)
    if choice.threads:
        torch.set_num_threads(choice.threads)
    return TorchEngine(network, device, _precision(choice.precision, device))


def choose_device(name: str) -> torch.device:
    """The device of that name; auto is the first GPU, or the CPU. Raises EngineUnavailable."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineUnavailable(
            f"device {name!r} does not exist here ({torch.cuda.device_count()} CUDA devices); "
            "set RCNN_DEVICE to auto, cpu or one of those"
        )
    return device


def _precision(name: str, device: torch.device) -> str:
    allowed = ("fp32", "fp16", "bf16") if device.type == "cuda" else ("fp32",)
    if name == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if name not in allowed:
        raise EngineUnavailable(
            f"precision {name!r} is not served by the torch engine on {device.type}; "
            f"set RCNN_PRECISION to auto, {' or '.join(allowed)}"
        )
    return name
