"""Chooses engine, device and precision at start-up; resolves every `auto`."""

import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

import torch
from torchvision.models.detection import FasterRCNN

from models.engines.cuda_device import cpu_reason, left_memory, set_memory_share, why_unusable
from models.engines.cuda_graphs import GraphRecorder
from models.engines.names import AUTO, ENGINES, PRECISIONS, EngineChoice, EngineUnavailable
from models.engines.protocol import Recording, ServingEngine
from models.engines.torch_engine import TorchEngine
from models.precision.proof import PrecisionChoice, on_torch

log = logging.getLogger(__name__)

# torch's threads spin for milliseconds after an operation, on cores that OpenVINO then needs: on two cores
# `shapes` took 28.5 ms an image with two torch threads, 23.3 with one.
TORCH_THREADS_BESIDE_OPENVINO = 1


@dataclass(frozen=True, eq=False)
class BuiltEngine:
    """An engine, and why it has its precision."""

    engine: ServingEngine
    precision: PrecisionChoice


def build_engine(network: FasterRCNN, choice: EngineChoice) -> ServingEngine:
    """As `build`; the engine alone."""
    return build(network, choice).engine


def build(network: FasterRCNN, choice: EngineChoice) -> BuiltEngine:
    """Put the network's static parts on the chosen device; raises EngineUnavailable.

    Also sets the process's number of torch threads: one beside OpenVINO, otherwise `choice.threads`.
    """
    device = choose_device(choice.device)
    set_memory_share(device, choice.memory)
    engine = _engine(choice.engine, device)
    if engine == "openvino":
        torch.set_num_threads(TORCH_THREADS_BESIDE_OPENVINO)
    elif choice.threads:
        torch.set_num_threads(choice.threads)
    if choice.precision != AUTO:
        _check_precision(choice.precision, engine, device)
        chosen = PrecisionChoice(choice.precision, f"RCNN_PRECISION is {choice.precision}")
    elif engine == "openvino":
        return BuiltEngine(*_openvino(network, choice, None))
    else:
        chosen = on_torch(choice.proof, PRECISIONS[engine, device.type], str(device))
    if engine == "openvino":
        return BuiltEngine(*_openvino(network, choice, chosen))
    new_recording = partial(_recording, device, choice.memory) if device.type == "cuda" else None
    return BuiltEngine(TorchEngine(network, device, chosen.precision, new_recording), chosen)


def _recording(device: torch.device, share: float) -> Recording:
    """How a GPU's runs are recorded, in this process's share of its memory."""
    return Recording(GraphRecorder(device), lambda: left_memory(device, share))


def build_engines(network: FasterRCNN, choice: EngineChoice, devices: Sequence[str]) -> list[BuiltEngine]:
    """An engine for each device; engines on the same device share their weights."""
    names = list(dict.fromkeys(devices))
    first: dict[str, BuiltEngine] = {}
    for name in names:
        # An engine may move the network to its device, so each but the last gets a copy.
        copied = network if name == names[-1] else deepcopy(network)
        first[name] = build(copied, replace(choice, device=name))
    return [
        replace(first[name], engine=first[name].engine.sibling()) if name in devices[:index] else first[name]
        for index, name in enumerate(devices)
    ]


def _openvino(
    network: FasterRCNN, choice: EngineChoice, chosen: PrecisionChoice | None
) -> tuple[ServingEngine, PrecisionChoice]:
    """An engine on OpenVINO; None: in the fastest of the precisions that are proven."""
    from models.engines.automatic.fastest import fastest
    from models.engines.automatic.openvino_parts import PartsSource

    parts = PartsSource(network, choice)
    return fastest(parts, choice) if chosen is None else (parts.engine(chosen.precision), chosen)


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first GPU, or the CPU. Raises EngineUnavailable."""
    if name == "auto":
        return _first_device()
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineUnavailable(
            f"device {name!r} does not exist here ({torch.cuda.device_count()} CUDA devices); "
            "set RCNN_DEVICE to auto, cpu or one of those"
        )
    if device.type == "cuda" and (reason := why_unusable(device)) is not None:
        raise EngineUnavailable(f"device {name!r} cannot be used: {reason}, or set RCNN_DEVICE to cpu")
    return device


def _first_device() -> torch.device:
    """The first GPU if torch can use it, else the CPU; logs why a GPU of the machine is not used."""
    if (reason := cpu_reason()) is not None:
        log.warning("%s", _cpu_instead(reason))
        return torch.device("cpu")
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def fallback_reason(devices: Sequence[str], of_model: str | None) -> str | None:
    """Why `auto` chose less than it could: the model's own reason, and why the CPU serves and not the GPU."""
    of_device = cpu_reason() if "auto" in devices else None
    reasons = [of_model, _cpu_instead(of_device) if of_device else None]
    return "; ".join(filter(None, reasons)) or None


def check_choice(engine: str, precision: str, device: torch.device) -> str:
    """The engine that would run on a device in that precision; raises EngineUnavailable. Loads nothing."""
    name = _engine(engine, device)
    if precision != AUTO:
        _check_precision(precision, name, device)
    return name


def _cpu_instead(reason: str) -> str:
    return f"the CPU is used, as this machine's GPU cannot be: {reason}"


def _engine(name: str, device: torch.device) -> str:
    if name not in ("auto", *ENGINES):
        raise EngineUnavailable(
            f"engine {name!r} is unknown; set RCNN_ENGINE to auto, {' or '.join(ENGINES)}"
        )
    installed = find_spec("openvino") is not None
    if name == "auto":
        return "openvino" if device.type == "cpu" and installed else "torch"
    if name == "openvino" and device.type != "cpu":
        raise EngineUnavailable(
            f"engine 'openvino' runs on the CPU, not on {device}; "
            "set RCNN_DEVICE to cpu, or RCNN_ENGINE to auto"
        )
    if name == "openvino" and not installed:
        raise EngineUnavailable(
            "engine 'openvino' is not installed; pip install 'rcnn-serve[cpu]', or set RCNN_ENGINE to auto"
        )
    return name


def _check_precision(name: str, engine: str, device: torch.device) -> None:
    allowed = PRECISIONS[engine, device.type]
    if name not in allowed:
        raise EngineUnavailable(
            f"precision {name!r} is not supported by the {engine} engine on {device.type}; "
            f"set RCNN_PRECISION to auto, {' or '.join(sorted(allowed))}"
        )
