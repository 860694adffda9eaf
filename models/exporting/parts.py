"""The static parts of a network, converted by torch and put into the graph."""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnxscript import GraphBuilder, ir
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from models.engines.folding import FoldingError, folded
from models.engines.parts import DensePart, HeadPart
from models.exporting.graph import OPSET, Value
from models.ops.roi_align import pooled_levels, roi_align_config

TRACED = (128, 192)  # canvas of the trace, px; sides are multiples of 32
TRACED_ROIS = 2


@dataclass(frozen=True, eq=False)
class Parts:
    """Both parts as bytes of ONNX, and the positions per canvas pixel of the pooled levels.

    Dense: pixels (N, 3, H, W) to features, objectness and deltas, `levels` of each. Head: as `HeadPart`.
    """

    dense: bytes
    head: bytes
    levels: int
    scales: tuple[float, ...]


class _FlatDense(nn.Module):
    """The dense part with its levels in one tuple, as a graph's outputs."""

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.part = DensePart(network)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features, objectness, deltas = self.part(pixels)
        return *features, *objectness, *deltas


@torch.inference_mode()
def convert_parts(network: FasterRCNN) -> Parts:
    """Convert both parts of a network in eval mode on the CPU, with folded norms."""
    config = roi_align_config(network)
    canvas = torch.zeros(1, 3, *TRACED)
    features, objectness, _ = DensePart(network)(canvas)
    _, scales = pooled_levels(features, TRACED, config)
    pooled = torch.zeros(TRACED_ROIS, features[0].shape[1], config.output_size, config.output_size)
    dense = _convert(_FlatDense(network), canvas, {0: "batch", 2: "height", 3: "width"})
    return Parts(dense, _convert(HeadPart(network), pooled, {0: "rois"}), len(objectness), scales)


def _convert(part: nn.Module, example: Tensor, dynamic: dict[int, str]) -> bytes:
    """The part by torch's tracing exporter: the newer one takes 14 to 30 times as long for the same nodes."""
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated; sizes become constants
        export: Callable[..., Any] = torch.onnx.export  # its types know no buffer
        export(
            _folded(part.eval(), example),
            (example,),
            written,
            dynamo=False,
            opset_version=OPSET,
            input_names=["part_input"],
            dynamic_axes={"part_input": dynamic},
        )
    return written.getvalue()


def _folded(part: nn.Module, example: Tensor) -> nn.Module:
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    try:
        return folded(part, noise)
    except FoldingError:
        return part


def add_part(builder: GraphBuilder, part: bytes, value: Value, name: str) -> Sequence[Value]:
    """Append the part's nodes to the graph with `value` as their input; its outputs."""
    graph = ir.from_proto(onnx.load_model_from_string(part)).graph
    nodes = list(graph)
    outputs = list(graph.outputs)
    initializers = list(graph.initializers.values())
    graph.inputs[0].replace_all_uses_with(value)
    graph.outputs.clear()
    graph.initializers.clear()
    graph.remove(nodes)
    for number, node in enumerate(nodes):
        node.name = f"{name}/{node.op_type}_{number}"
        for output in node.outputs:
            output.name = f"{name}/{output.name}"
    for initializer in initializers:
        initializer.name = f"{name}/{initializer.name}"
        builder.graph.register_initializer(initializer)
    builder.graph.extend(nodes)
    return outputs
