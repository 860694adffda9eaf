"""A whole detector as one ONNX model: images in, padded detections out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
from onnxscript import GraphBuilder, ir

from models.exporting.canvas import add_canvas
from models.exporting.detections import DetectionConfig, HeadValues, add_detections
from models.exporting.graph import FLOAT, INT64, OPSET
from models.exporting.parts import add_part
from models.exporting.pooling import add_pooled
from models.exporting.proposals import add_proposals
from models.exporting.source import Source, metadata
from models.ops.fixed_nms import highest_float
from models.ops.roi_align import roi_align_config
from models.options import Options
from models.pipeline.proposals import proposal_config

PRODUCER = "rcnn-serve"
IR_VERSION = 9  # what runtimes since 2023 read
INPUT = "images"
OUTPUTS = {
    "boxes": (FLOAT, ("N", "D", 4)),
    "labels": (INT64, ("N", "D")),
    "scores": (FLOAT, ("N", "D")),
}


def onnx_model(source: Source, options: Options, suppress_equal: bool = False) -> onnx.ModelProto:
    """The model: `images` UINT8 (N, H, W, 3) RGB to `boxes`, `labels`, `scores`, with these thresholds.

    N, H and W are dynamic. Only standard operators; the metadata has labels and preprocessing.
    `suppress_equal` is for a runtime whose NMS suppresses at its threshold, not only above it.
    """
    graph = ir.Graph([], [], nodes=[], name=source.card.name, opset_imports={"": OPSET})
    builder = GraphBuilder(graph)
    _add_detector(builder, source, options, above if suppress_equal else highest_float)
    _forget_shapes(graph)
    model = ir.Model(graph, ir_version=IR_VERSION, producer_name=PRODUCER, model_version=1)
    model.metadata_props.update(metadata(source, options))
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=False)
    return proto


def above(threshold: float) -> float:
    """The lowest float32 that is above the threshold."""
    return float(np.nextafter(np.float32(highest_float(threshold)), np.float32(2)))


def _add_detector(
    builder: GraphBuilder, source: Source, options: Options, overlap: Callable[[float], float]
) -> None:
    op, network, parts = builder.op, source.network, source.parts
    images = builder.input(INPUT, ir.DataType.UINT8, ["N", "H", "W", 3])
    canvas = add_canvas(op, images, source.card)
    levels = add_part(builder, parts.dense, op.Transpose(canvas.pixels, perm=[0, 3, 1, 2]), "dense")
    objectness, deltas = levels[-2 * parts.levels : -parts.levels], levels[-parts.levels :]
    rpn = proposal_config(network)
    rpn = replace(rpn, nms_threshold=overlap(rpn.nms_threshold))
    proposals = add_proposals(op, objectness, deltas, canvas, rpn)
    config = roi_align_config(network)
    features = [levels[k] for k in config.levels[: len(parts.scales)]]
    pooled = add_pooled(op, features, proposals, parts.scales, config)
    logits, head_deltas = add_part(builder, parts.head, pooled.features, "head")
    head = HeadValues(logits, head_deltas, pooled.rows, len(source.card.labels))
    options = replace(options, nms_threshold=overlap(options.nms_threshold))
    how = DetectionConfig(network.roi_heads.box_coder, options, *source.card.head.after_nms)
    values = add_detections(op, head, proposals, canvas, how)
    for value, (name, (dtype, shape)) in zip(values, OUTPUTS.items(), strict=True):
        value.type, value.shape = ir.TensorType(dtype), ir.Shape(shape)
        builder.add_output(value, name)


def _forget_shapes(graph: ir.Graph) -> None:
    """Drop the inferred shapes: names of dimensions that two parts share would mean equal sizes."""
    for node in graph:
        for output in node.outputs:
            if not output.is_graph_output():
                output.shape = output.type = None
