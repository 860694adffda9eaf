"""The static parts as OpenVINO models: traced from torch, converted in memory, written to files.

Inputs and outputs of a part are NHWC, as the canvases and the feature maps that RoIAlign reads are. The
frontend is called directly, as `openvino.convert_model` does more and takes longer.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from models.engines.openvino_import import (
    FrontEndManager,
    TorchScriptPythonDecoder,
    apply_moc_transformations,
    ov,
)
from models.engines.parts import DensePart, HeadPart

DENSE, HEAD = "dense.xml", "head.xml"
TRACED = (64, 96)  # canvas of the trace, px; sides are multiples of 32
TRACED_ROIS = 2


@dataclass(frozen=True, eq=False)
class Parts:
    """Dense part: canvases (B, H, W, 3) to features, objectness and deltas, all levels of each, NHWC.

    Head: pooled features (R, side, side, C) to logits (R, K), deltas (R, 4K). Batch and sizes are dynamic.
    """

    dense: ov.Model
    head: ov.Model


class _DenseNHWC(nn.Module):
    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.part = DensePart(network)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features, objectness, deltas = self.part(pixels.permute(0, 3, 1, 2))
        return tuple(level.permute(0, 2, 3, 1) for level in (*features, *objectness, *deltas))


class _HeadNHWC(nn.Module):
    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.part = HeadPart(network)
        side = network.roi_heads.box_roi_pool.output_size[0]
        self._flattens = isinstance(self.part.box_head, TwoMLPHead)
        if self._flattens:
            self.part.box_head = _flattening_nhwc(self.part.box_head, network.backbone.out_channels, side)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = self.part(pooled if self._flattens else pooled.permute(0, 3, 1, 2))
        return logits, deltas


def _flattening_nhwc(head: TwoMLPHead, channels: int, side: int) -> TwoMLPHead:
    """The head with its first layer's weights reordered to read (side, side, C) without a transpose."""
    head = copy.deepcopy(head)
    outputs = len(head.fc6.weight)
    weight = head.fc6.weight.view(outputs, channels, side, side).permute(0, 2, 3, 1)
    head.fc6.weight = nn.Parameter(weight.reshape(outputs, -1), requires_grad=False)
    return head


def convert(network: FasterRCNN) -> Parts:
    """Convert both parts of a network in eval mode on the CPU; they share its weights' memory."""
    side = network.roi_heads.box_roi_pool.output_size[0]
    channels = network.backbone.out_channels
    canvas = torch.zeros(1, *TRACED, 3)
    pooled = torch.zeros(TRACED_ROIS, side, side, channels)
    return Parts(
        dense=_convert(_DenseNHWC(network), canvas, [-1, -1, -1, 3]),
        head=_convert(_HeadNHWC(network), pooled, [-1, side, side, channels]),
    )


def _convert(part: nn.Module, example: Tensor, shape: list[int]) -> ov.Model:
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(_trace(part.eval(), example))  # a variable: the graph does not hold it
    graph = frontend.load(decoder)
    [graph_input] = graph.get_inputs()
    graph.set_partial_shape(graph_input, ov.PartialShape(shape))
    graph.set_element_type(graph_input, ov.Type.f32)
    model = frontend.convert(graph)
    apply_moc_transformations(model, cf=False, smart_reshape=True)  # folds norms into convolutions
    return model


def _trace(part: nn.Module, example: Tensor) -> Any:
    """The part as TorchScript: takes a third of the time of `torch.export`; the frontend prefers it too."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing is deprecated; sizes become constants
        trace: Callable[..., Any] = torch.jit.trace
        return trace(part, example, check_trace=False, strict=False)


def write_parts(parts: Parts, folder: Path) -> None:
    """Write both parts, each as an .xml and a .bin file, with unchanged weights."""
    ov.save_model(parts.dense, folder / DENSE, compress_to_fp16=False)
    ov.save_model(parts.head, folder / HEAD, compress_to_fp16=False)


def read_parts(folder: Path) -> Parts:
    """Read both parts, with memory-mapped weights. Raises RuntimeError if a file is missing or damaged."""
    core = ov.Core()
    return Parts(*(_checked(core.read_model(folder / name), folder / name) for name in (DENSE, HEAD)))


def _checked(model: ov.Model, path: Path) -> ov.Model:
    """The model, if all its float constants are finite: weights, biases, and the scales of int8."""
    for operation in model.get_ops():
        if operation.get_type_name() == "Constant" and operation.get_element_type().is_real():
            count = int(np.count_nonzero(~np.isfinite(operation.data)))
            if count:
                raise RuntimeError(
                    f"{path}: {operation.get_friendly_name()} holds {count} of {operation.data.size} values "
                    "that are not finite (NaN or infinite)"
                )
    return model
