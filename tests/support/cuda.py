"""The GPU's path for tests: on a CUDA device, or without one on the CPU with stand-ins."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection import FasterRCNN

from models.detector import Detector
from models.engines import EngineChoice, build_engine
from models.engines.cuda_graphs import GraphRecorder
from models.engines.graphed_engine import GraphedEngine, Recorder, Recording, RunDense
from models.engines.protocol import DenseOutput, Engine
from models.engines.shared_buffers import flat
from models.engines.torch_engine import TorchEngine
from models.pipeline.padded import Padded
from models.pipeline.tail import Tail
from models.zoo.cards import Card

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def gpu_engine(network: FasterRCNN, precision: str) -> GraphedEngine:
    """The engine of a GPU; without one the same on the CPU."""
    if DEVICE.type == "cuda":
        engine = build_engine(network, EngineChoice("cuda", "torch", precision))
    else:
        engine = GraphedEngine(TorchEngine(network, DEVICE, precision), Recording(HostRecorder()))
    assert isinstance(engine, GraphedEngine)
    return engine


def gpu_detector(network: FasterRCNN, card: Card, engine: Engine) -> Detector:
    """A detector with padded rows, as on a GPU."""
    detector = Detector(network, card, engine)
    detector._tail = Tail(network, engine, Padded())
    return detector


def recorder() -> Recorder:
    """What records on this device."""
    return GraphRecorder(DEVICE) if DEVICE.type == "cuda" else HostRecorder()


WAITS = torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default


class _Capture(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold: the host's wait for a value."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> object:
        if operation in WAITS:
            raise RuntimeError("operation not permitted when stream is capturing")
        return operation(*arguments, **(named or {}))


class HostRecorder:
    """Replays as a CUDA graph does: from the example's memory into the memory of the recorded output."""

    def __call__(self, run: RunDense, example: Tensor) -> Callable[[Tensor], DenseOutput]:
        """A replay of `run`. Raises RuntimeError if it waits for a value."""
        with _Capture():
            output = run(example)

        def replay(pixels: Tensor) -> DenseOutput:
            inputs = example[: len(pixels)]
            if inputs.data_ptr() != pixels.data_ptr():
                inputs.copy_(pixels)
            for kept, new in zip(flat(output), flat(run(example)), strict=True):
                kept.copy_(new)
            return output

        return replay
