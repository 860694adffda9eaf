"""Which engine, device and precision a start-up gets: every `auto` is decided here."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torchvision.models.detection import FasterRCNN

from models.engines.cuda_graphs import GraphRecorder
from models.engines.graphed_engine import GraphedEngine
from models.engines.protocol import ServingEngine
from models.engines.torch_engine import TorchEngine

ENGINES = ("torch", "openvino")
# What each engine computes in on each kind of device, its default first.
PRECISIONS = {
    ("torch", "cpu"): ("fp32",),
    ("torch", "cuda"): ("fp16", "fp32", "bf16"),
    ("openvino", "cpu"): ("fp32", "bf16", "int8"),
}

# torch's threads wait for their next operation by spinning, for milliseconds, on cores that OpenVINO needs
# by then: with two of them `shapes` took 28.5 ms an image on two cores, with one 23.3.
BESIDE_OPENVINO = 1


class EngineUnavailable(ValueError):
    """What was asked for does not exist on this machine; the message names what does."""


@dataclass(frozen=True)
class EngineChoice:
    """Names as in the settings: `auto` or a definite one; threads 0 means one a core.

    `cache_dir` keeps converted networks for the next start; `quantized` is the artefact that int8 runs.
    """

    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    threads: int = 0
    cache_dir: Path | None = None
    quantized: Path | None = None


def build_engine(network: FasterRCNN, choice: EngineChoice) -> ServingEngine:
    """Put the network's static parts on the chosen device; raises EngineUnavailable.

    It also sets torch's own threads for the process: beside OpenVINO one, or else `choice.threads`.
    """
    device = choose_device(choice.device)
    engine = _engine(choice.engine, device)
    precision = _precision(choice.precision, engine, device)
    if engine == "torch":
        if choice.threads:
            torch.set_num_threads(choice.threads)
        on_gpu = device.type == "cuda"
        return _cuda(network, device, precision) if on_gpu else TorchEngine(network, device, precision)
    torch.set_num_threads(BESIDE_OPENVINO)
    return _openvino(network, choice, precision)


def _cuda(network: FasterRCNN, device: torch.device, precision: str) -> ServingEngine:
    eager = TorchEngine(network, device, precision)
    return GraphedEngine(eager, GraphRecorder(device), another=lambda: GraphRecorder(device))


def build_engines(network: FasterRCNN, choice: EngineChoice, devices: Sequence[str]) -> list[ServingEngine]:
    """An engine for each of the devices; those of one device share its weights."""
    names = list(dict.fromkeys(devices))
    engines = {}
    for name in names:
        # An engine may move the network to its device: each but the last gets one of its own, while it is
        # still where it was loaded.
        own = network if name == names[-1] else deepcopy(network)
        engines[name] = build_engine(own, replace(choice, device=name))
    first = set(names)
    found = []
    for name in devices:
        found.append(engines[name] if name in first else engines[name].sibling())
        first.discard(name)
    return found


def _openvino(network: FasterRCNN, choice: EngineChoice, precision: str) -> ServingEngine:
    from models.engines.conversion import read_parts
    from models.engines.openvino_engine import OpenVINOEngine, has_bf16
    from models.engines.part_cache import obtain_parts

    if precision == "bf16" and not has_bf16():
        raise EngineUnavailable("this CPU has no bf16 arithmetic; set RCNN_PRECISION to auto or fp32")
    if precision != "int8":
        return OpenVINOEngine(obtain_parts(network, choice.cache_dir), precision, choice.threads)
    if choice.quantized is None:
        raise EngineUnavailable(
            "precision 'int8' runs an artefact that `rcnn quantize --model NAME --images DIR` makes; "
            "make one, or set RCNN_PRECISION to auto"
        )
    try:
        return OpenVINOEngine(read_parts(choice.quantized), precision, choice.threads)
    except RuntimeError as error:
        raise EngineUnavailable(f"{choice.quantized} is damaged; quantize the model again") from error


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


def _engine(name: str, device: torch.device) -> str:
    if name not in ("auto", *ENGINES):
        raise EngineUnavailable(
            f"engine {name!r} is not part of this version; set RCNN_ENGINE to auto, {' or '.join(ENGINES)}"
        )
    installed = find_spec("openvino") is not None
    if name == "auto":
        return "openvino" if device.type == "cpu" and installed else "torch"
    if name == "openvino" and device.type != "cpu":
        raise EngineUnavailable(
            f"engine 'openvino' computes on CPUs, not on {device}; "
            "set RCNN_DEVICE to cpu, or RCNN_ENGINE to auto"
        )
    if name == "openvino" and not installed:
        raise EngineUnavailable(
            "engine 'openvino' is not installed; pip install 'rcnn-serve[cpu]', or set RCNN_ENGINE to auto"
        )
    return name


def _precision(name: str, engine: str, device: torch.device) -> str:
    allowed = PRECISIONS[engine, device.type]
    if name == "auto":
        return allowed[0]
    if name not in allowed:
        raise EngineUnavailable(
            f"precision {name!r} is not served by the {engine} engine on {device.type}; "
            f"set RCNN_PRECISION to auto, {' or '.join(sorted(allowed))}"
        )
    return name
