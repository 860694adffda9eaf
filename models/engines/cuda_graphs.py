"""Records CUDA graphs: warms up and captures on a separate stream, in one memory pool.

Graphs of one pool overwrite each other's workspace and outputs. This is safe: the output of an engine's dense
part is valid until its next call only, and graphs are replayed one after another.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.engines.protocol import DenseOutput

WARM_UPS = 3  # as torch.cuda.make_graphed_callables: libraries tune and allocate in the first runs

# A graph whose capture failed: older torch keeps using it for every allocation, so it must not be freed.
_kept: list[torch.cuda.CUDAGraph] = []


class GraphRecorder:
    """Records functions of one tensor on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[Tensor], DenseOutput], example: Tensor) -> "Replay":
        """A replay of `run`, whose input is the example's memory. Raises RuntimeError if that fails."""
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(example.device))
        # torch.cuda.graph sets the stream too, but does not restore it if ending the capture fails.
        with torch.cuda.stream(self._stream), torch.inference_mode():
            for _ in range(WARM_UPS):
                run(example)
            outputs = self._capture(graph, run, example)
        torch.cuda.current_stream(example.device).wait_stream(self._stream)
        return Replay(graph, example, outputs)

    def _capture(
        self, graph: torch.cuda.CUDAGraph, run: Callable[[Tensor], DenseOutput], inputs: Tensor
    ) -> DenseOutput:
        # thread_local: CUDA calls of other threads must not break the capture.
        capture = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        try:
            with capture:
                return run(inputs)
        except RuntimeError:
            graph.reset()  # returns what the capture had allocated
            if not frees_failed_captures(torch.__version__):
                _kept.append(graph)
            raise


class Replay:
    """A recorded run: copies its argument to the graph's input memory and returns its output memory.

    A smaller batch takes the first places; the others keep what they had.
    """

    def __init__(self, graph: torch.cuda.CUDAGraph, inputs: Tensor, outputs: DenseOutput) -> None:
        self._graph = graph
        self._inputs = inputs
        self._outputs = outputs

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> DenseOutput:
        """Launch on the current stream; the output is valid until the next replay of a graph of the pool."""
        inputs = self._inputs[: len(pixels)]
        if inputs.data_ptr() != pixels.data_ptr():
            inputs.copy_(pixels)
        self._graph.replay()
        return self._outputs


def frees_failed_captures(version: str) -> bool:
    """Whether this torch's `CUDAGraph.reset` ends a failed capture's use of the allocator: from 2.14 on."""
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) >= (2, 14)
