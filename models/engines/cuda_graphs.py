"""Records CUDA graphs: warms up and captures on a separate stream, in one memory pool.

Graphs of one pool overwrite each other's workspace. This is safe, as they are replayed one after another.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.engines.protocol import R

WARM_UPS = 3  # as torch.cuda.make_graphed_callables: libraries tune and allocate in the first runs

# A graph whose capture failed: older torch keeps using it for every allocation, so it must not be freed.
_kept: list[torch.cuda.CUDAGraph] = []


class GraphRecorder:
    """Records functions on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], R]) -> tuple[Callable[[], object], R]:
        """See `models.engines.protocol.Record`."""
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        # torch.cuda.graph sets the stream too, but does not restore it if ending the capture fails.
        with torch.cuda.stream(self._stream), torch.inference_mode():
            for _ in range(WARM_UPS):
                run()
            replay = Replay(graph, inputs := ReadTensors())
            with inputs:
                result = self._capture(graph, run)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return replay, result

    def _capture(self, graph: torch.cuda.CUDAGraph, run: Callable[[], R]) -> R:
        # thread_local: CUDA calls of other threads must not break the capture.
        capture = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        try:
            with capture:
                return run()
        except RuntimeError:
            graph.reset()  # returns what the capture had allocated
            if not frees_failed_captures(torch.__version__):
                _kept.append(graph)
            raise


class Replay:
    """A recorded run: reads and writes the same memory as then, on the current stream."""

    def __init__(self, graph: torch.cuda.CUDAGraph, inputs: "ReadTensors") -> None:
        self._graph = graph
        self._inputs = inputs  # a graph knows addresses alone: a cache must not free what it reads

    def __call__(self) -> None:
        """Launch it."""
        self._graph.replay()


class ReadTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
    """Holds the tensors that a run reads and has not made itself: weights, constants, its input."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
        self.tensors: dict[int, Tensor] = {}  # one of each memory
        self._made: set[int] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> object:
        """Run one operation."""
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            if (memory := _memory(tensor)) not in self._made:
                self.tensors.setdefault(memory, tensor)
        result = operation(*args, **kwargs)
        self._made.update(_memory(tensor) for tensor in _tensors(result))
        return result


def _tensors(values: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def frees_failed_captures(version: str) -> bool:
    """Whether this torch's `CUDAGraph.reset` ends a failed capture's use of the allocator: from 2.14 on."""
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) >= (2, 14)
