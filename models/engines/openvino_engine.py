"""The OpenVINO engine: both parts compiled for the CPU; inputs and outputs share memory with torch."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from models.engines.conversion import Parts
from models.engines.openvino_import import ov
from models.engines.openvino_nms import OpenVINONMS
from models.engines.protocol import DenseOutput
from models.ops.scratch import ScratchBuffer

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # int8: what is not quantized stays fp32
KNOWN_SHAPES = 1024  # of batches: canvas keys times batch sizes


class OpenVINOEngine:
    """Runs converted parts on the CPU; `threads` 0 means one per core."""

    name = "openvino"
    device = "cpu"
    recording = None

    def __init__(
        self, parts: Parts | Callable[[], Parts], precision: str, threads: int, shared: Path | None = None
    ) -> None:
        """`shared`: where the parts are cached; engines of the same place share what is compiled.

        `parts` may be what makes them: it is called only where they must be compiled.
        """
        self.precision, self._threads = precision, threads
        compiled = _COMPILED.get((shared, precision, threads)) if shared else None
        if compiled is None:
            compiled = _compile(parts() if callable(parts) else parts, precision, threads)
            if shared:
                _COMPILED[shared, precision, threads] = compiled
        self._compiled = compiled
        self._dense, self._head = compiled.dense, compiled.head
        self._allocate(ov.Core())
        self._outputs = [port.get_partial_shape()[1].get_length() for port in self._head.outputs]

    def _allocate(self, core: ov.Core) -> None:
        """Create what threads must not share: requests and their output memory."""
        self._run_dense = _ReusingOutputs(self._dense)
        self.suppress = OpenVINONMS(core, _settings("fp32", self._threads))

    def sibling(self) -> "OpenVINOEngine":
        """Another engine on the same compiled parts, for another thread."""
        sibling = copy(self)
        sibling._allocate(ov.Core())
        return sibling

    def dense(self, pixels: Tensor) -> DenseOutput:
        """Canvases (B, 3, H, W) to feature maps and RPN outputs, channels last; valid until the next call."""
        levels = [level.permute(0, 3, 1, 2) for level in self._run_dense(pixels.permute(0, 2, 3, 1))]
        count = len(levels) // 3
        return DenseOutput(levels[:count], levels[count : 2 * count], levels[2 * count :])

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, side, side) to class logits (R, K) and box deltas (R, 4K)."""
        if not len(pooled):
            logits, deltas = (pooled.new_zeros(0, width) for width in self._outputs)
            return logits, deltas
        logits, deltas = _run(self._head, pooled.permute(0, 2, 3, 1))
        return logits, deltas


@dataclass(frozen=True, eq=False)
class _Compiled:
    """Both parts, compiled: read-only, so any number of engines may use them."""

    dense: ov.CompiledModel
    head: ov.CompiledModel


_COMPILED: WeakValueDictionary[tuple[Path, str, int], _Compiled] = WeakValueDictionary()
"""What engines of this process compiled, by place, precision and threads, as long as one of them lives."""


def _compile(parts: Parts, precision: str, threads: int) -> _Compiled:
    core, settings = ov.Core(), _settings(precision, threads)
    return _Compiled(*(core.compile_model(part, "CPU", settings) for part in (parts.dense, parts.head)))


class _ReusingOutputs:
    """A compiled model that reuses its output memory, once it knows the outputs' shapes."""

    def __init__(self, model: ov.CompiledModel) -> None:
        self._model = model
        self._request = model.create_infer_request()
        self._buffers = [ScratchBuffer() for _ in model.outputs]
        self._shapes: dict[tuple[int, ...], list[tuple[int, ...]]] = {}

    def __call__(self, tensor: Tensor) -> Sequence[Tensor]:
        """The outputs; they are valid until the next call."""
        inputs = np.ascontiguousarray(tensor.numpy())
        if inputs.shape not in self._shapes:
            levels = _run(self._model, tensor)
            if len(self._shapes) >= KNOWN_SHAPES:
                self._shapes.clear()
            self._shapes[inputs.shape] = [tuple(level.shape) for level in levels]
            return levels
        shapes = self._shapes[inputs.shape]
        outputs = [buffer(*shape) for buffer, shape in zip(self._buffers, shapes, strict=True)]
        for k, output in enumerate(outputs):
            self._request.set_output_tensor(k, ov.Tensor(output.numpy(), shared_memory=True))
        self._request.infer([inputs], share_inputs=True, share_outputs=True)
        return outputs


def has_bf16() -> bool:
    """Whether this CPU computes in bf16."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _settings(precision: str, threads: int) -> dict[str, str | int | bool]:
    """Always sets the precision: OpenVINO uses bf16 by default on a CPU that supports it."""
    settings: dict[str, str | int | bool] = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # cores are shared with decoding threads and other processes
    }
    return settings | ({"INFERENCE_NUM_THREADS": threads} if threads else {})


def _run(model: ov.CompiledModel, tensor: Tensor) -> Sequence[Tensor]:
    """The model's outputs in new memory: each run makes a request, which owns its outputs."""
    request = model.create_infer_request()
    inputs = np.ascontiguousarray(tensor.numpy())
    outputs = request.infer([inputs], share_inputs=True, share_outputs=True)
    return [torch.from_numpy(outputs[k]) for k in range(len(model.outputs))]
