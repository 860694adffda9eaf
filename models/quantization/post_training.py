"""Post-training quantization of both parts by NNCF; groups of layers may stay fp32."""

import logging
import sys
from collections.abc import Iterable, Sized
from contextlib import redirect_stdout
from typing import Any, Protocol

from models.engines.conversion import Parts
from models.engines.openvino_import import ov
from models.quantization.calibration import Calibration

HEAD = "box head"
# The groups of layers that stay fp32, step by step: those that cost least time and most accuracy first.
STEPS: tuple[tuple[str, ...], ...] = (
    (),
    ("output layers",),
    ("output layers", HEAD),
    ("output layers", HEAD, "pyramid"),
)
LAYERS = {
    "output layers": r".*(rpn_head\.(cls_logits|bbox_pred)|box_predictor).*",
    "pyramid": r".*backbone\.fpn.*",
}


class _Inputs(Sized, Iterable[Any], Protocol):
    """The calibration inputs of one part."""


def quantize(parts: Parts, calibration: Calibration, kept: tuple[str, ...]) -> Parts:
    """Both parts in int8 except the groups `kept`; `parts` is not changed."""
    logging.getLogger("nncf").setLevel(logging.ERROR)  # nncf.set_log_level would set every handler's too
    with redirect_stdout(sys.stderr):  # its progress bars
        dense = _quantize(parts.dense, calibration.canvases, kept)
        head = parts.head if HEAD in kept else _quantize(parts.head, calibration.pooled, kept)
    return Parts(dense, head)


def _quantize(model: ov.Model, inputs: _Inputs, kept: tuple[str, ...]) -> ov.Model:
    import nncf  # after models.engines.openvino_import, which turns its telemetry off

    patterns = [LAYERS[group] for group in kept if group in LAYERS]
    quantized: ov.Model = nncf.quantize(
        model,
        nncf.Dataset(inputs),
        preset=nncf.QuantizationPreset.MIXED,  # activations that go below zero get a zero point
        subset_size=len(inputs),
        fast_bias_correction=True,
        ignored_scope=nncf.IgnoredScope(patterns=patterns, validate=False) if patterns else None,
    )
    return quantized
