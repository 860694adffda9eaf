"""Pieces of the graph, each run in ONNX Runtime beside the function that it repeats."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from onnxscript import GraphBuilder, ir
from torchvision.ops import roi_align, roi_pool

from models.exporting.canvas import RESIZES
from models.exporting.canvas_size import resized_size
from models.exporting.graph import OPSET, Op, Value
from models.exporting.onnx_model import IR_VERSION
from models.exporting.pooling import add_pooled
from models.exporting.proposals import ProposalValues
from models.ops.roi_align import RoIAlignConfig
from models.pipeline.canvas import resized_by
from models.pipeline.resize import resize_opencv, resize_pillow

Array = npt.NDArray[Any]


def compiled(trace: Callable[..., Value], *examples: Array) -> Callable[..., Array]:
    """A graph with inputs of the examples' types, as a function."""
    builder = GraphBuilder(ir.Graph([], [], nodes=[], name="piece", opset_imports={"": OPSET}))
    names = [f"input_{k}" for k in range(len(examples))]
    values = [
        builder.input(name, ir.DataType.from_numpy(example.dtype), [None] * example.ndim)
        for name, example in zip(names, examples, strict=True)
    ]
    builder.add_output(trace(builder.op, *values), "output")
    model = ir.to_proto(ir.Model(builder.graph, ir_version=IR_VERSION)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def call(*inputs: Array) -> Array:
        return np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])

    return call


@pytest.mark.parametrize("limits", [(800, 1333), (320, 576)])
@pytest.mark.parametrize("library", ["torch", "opencv", "pillow"])
def test_sizes_are_those_of_the_library(library: str, limits: tuple[int, int]) -> None:
    """Also where a ratio in float64 is just too small: 97 px become 799 of 800 in torchvision."""
    graph = compiled(lambda op, size: resized_size(op, size, library, limits), np.array([1, 1]))
    chosen = np.random.default_rng(1)
    sides = [(97, 97), (161, 322), (1, 9000), (9000, 1), (800, 1333)]
    sides += [tuple(pair) for pair in chosen.integers(1, 4000, (600, 2)).tolist()]
    sides += [
        tuple(pair) for pair in (chosen.integers(1, 9, (600, 2)) * chosen.integers(1, 300, (600, 1))).tolist()
    ]
    found = [tuple(graph(np.array(pair)).tolist()) for pair in sides]
    assert found == [resized_by(library, pair, *limits) for pair in sides]


SIZES = [
    ((75, 110), (96, 141)),
    ((300, 400), (96, 128)),
    ((96, 128), (96, 128)),
    ((64, 64), (32, 32)),
    ((333, 517), (217, 100)),
    ((50, 2), (96, 40)),
]


@pytest.mark.parametrize(("name", "resize"), [("pillow", resize_pillow), ("opencv", resize_opencv)])
def test_a_resize_is_that_of_the_library_to_the_byte(
    name: str, resize: Callable[[Array, int, int], Array]
) -> None:
    examples = np.zeros((1, 1, 1, 3), np.uint8), np.array([1, 1])
    graph = compiled(RESIZES[name], *examples)
    for (height, width), size in SIZES:
        images = np.random.default_rng(height).integers(0, 256, (2, height, width, 3), np.uint8)
        expected = np.stack([resize(image, *size) for image in images])
        np.testing.assert_array_equal(graph(images, np.array(size)), expected)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("samples", [0, 2])
def test_pooling_is_that_of_torchvision(samples: int, aligned: bool) -> None:
    """Boxes with many, few and no positions, at the edges, for two images; padding is left out."""
    chosen = torch.Generator().manual_seed(0)
    feature = torch.randn(2, 3, 12, 15, generator=chosen)
    corners = torch.rand(2, 5, 2, generator=chosen) * 200
    boxes = torch.cat([corners, corners + torch.rand(2, 5, 2, generator=chosen) * 100], dim=2)
    boxes[0, 0, 2:] = boxes[0, 0, :2] + 0.5
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    config = RoIAlignConfig((0,), 7, samples, 224, 4, aligned=aligned)

    def trace(op: Op, feature: Value, boxes: Value, valid: Value) -> Value:
        return add_pooled(op, [feature], ProposalValues(boxes, valid), [1 / 16], config).features

    inputs = [tensor.numpy() for tensor in (feature, boxes, valid)]
    rois = [boxes[0], boxes[1, :3]]
    expected = roi_align(feature, rois, 7, 1 / 16, sampling_ratio=samples, aligned=aligned)
    np.testing.assert_allclose(compiled(trace, *inputs)(*inputs), expected.numpy(), atol=1e-5)


def test_roi_pool_is_that_of_torchvision() -> None:
    feature = torch.randn(1, 3, 12, 15, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[[3.0, 5.0, 90.0, 120.0], [0.0, 0.0, 8.0, 8.0], [100.5, 20.0, 231.0, 191.0]]])
    config = RoIAlignConfig((0,), 7, 1, 224, 4, quantised=True)

    def trace(op: Op, feature: Value, boxes: Value, valid: Value) -> Value:
        return add_pooled(op, [feature], ProposalValues(boxes, valid), [1 / 16], config).features

    inputs = [feature.numpy(), boxes.numpy(), np.ones((1, 3), bool)]
    expected = roi_pool(feature, [boxes[0]], 7, 1 / 16)
    np.testing.assert_allclose(compiled(trace, *inputs)(*inputs), expected.numpy())
