"""The recording of CUDA graphs: warmed up and captured on a stream of its own, in one pool of memory.

Graphs that share a pool overwrite one another's work space, and so one another's answers. They may: what
an engine's dense part answers is valid until its next call, and graphs are replayed one after another.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.engines.protocol import DenseOutput

WARM_UPS = 3  # as torch's own make_graphed_callables: libraries choose and allocate in the first runs

# A capture that fails never tells torch's allocator that it has ended, and the allocator goes on asking its
# graph about every allocation: the graph must not be freed. There is one at most for each engine.
_abandoned: list[torch.cuda.CUDAGraph] = []


class GraphRecorder:
    """Records functions of one tensor on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[Tensor], DenseOutput], example: Tensor) -> "Replay":
        """A replay of `run` for tensors of the example's shape. RuntimeError: it cannot be captured."""
        inputs = example.clone()  # its strides stay: channels last
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(example.device))
        # torch.cuda.graph sets the stream as well, but leaves it set when the capture's end fails.
        with torch.cuda.stream(self._stream), torch.inference_mode():
            for _ in range(WARM_UPS):
                run(inputs)
            outputs = self._capture(graph, run, inputs)
        torch.cuda.current_stream(example.device).wait_stream(self._stream)
        return Replay(graph, inputs, outputs)

    def _capture(
        self, graph: torch.cuda.CUDAGraph, run: Callable[[Tensor], DenseOutput], inputs: Tensor
    ) -> DenseOutput:
        # thread_local: what other threads do with the device must not break the capture.
        capture = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        try:
            with capture:
                return run(inputs)
        except RuntimeError:
            _abandoned.append(graph)
            raise


class Replay:
    """A recorded run: copies its argument to where the graph reads, and answers where the graph writes."""

    def __init__(self, graph: torch.cuda.CUDAGraph, inputs: Tensor, outputs: DenseOutput) -> None:
        self._graph = graph
        self._inputs = inputs
        self._outputs = outputs

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> DenseOutput:
        """Launch on the current stream; the answer is valid until the next replay of any of the pool."""
        self._inputs.copy_(pixels)
        self._graph.replay()
        return self._outputs
