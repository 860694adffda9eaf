"""The GPU's path for tests: on a CUDA device, or without one on the CPU with stand-ins."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection import FasterRCNN

from models.detector import Detector
from models.engines import EngineChoice, build_engine
from models.engines.cuda_graphs import GraphRecorder
from models.engines.protocol import Engine, R, Record, Recording
from models.engines.torch_engine import TorchEngine
from models.pipeline.batches.device_thread import DeviceThread
from models.pipeline.batches.recorded_runs import RecordedRuns
from models.pipeline.batches.runner import BatchRunner
from models.pipeline.padded import Padded
from models.pipeline.tail import Tail
from models.zoo.cards import Card

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def gpu_engine(network: FasterRCNN, precision: str) -> Engine:
    """The engine of a GPU; without one the same on the CPU."""
    if DEVICE.type == "cuda":
        return build_engine(network, EngineChoice("cuda", "torch", precision))
    return TorchEngine(network, DEVICE, precision, lambda: Recording(HostRecorder()))


def gpu_detector(network: FasterRCNN, card: Card, engine: Engine) -> Detector:
    """A detector with padded rows and a thread of its own, as on a GPU."""
    detector = Detector(network, card, engine)
    tail = Tail(network, engine, Padded())
    detector._runner = BatchRunner(engine, tail, detector._upload, len(card.labels))
    detector.on_thread = DeviceThread()
    return detector


def recorded(detector: Detector) -> RecordedRuns[Any]:
    """The detector's recorded runs."""
    assert detector._runner.recorded is not None
    return detector._runner.recorded


def recorder() -> Record:
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
    """Replays as a CUDA graph does: from the same memory into the memory of the recorded result."""

    def __init__(self) -> None:
        self.replays = 0

    def __call__(self, run: Callable[[], R]) -> tuple[Callable[[], object], R]:
        """A replay of `run`. Raises RuntimeError if it waits for a value."""
        with _Capture():
            result = run()

        def replay() -> None:
            self.replays += 1
            for kept, new in zip(result.tensors, run().tensors, strict=True):
                kept.copy_(new)

        return replay, result
