"""Files of the graph: ONNX, and OpenVINO's IR of the same graph; how each is written and run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from models.detections import Detections
from models.exporting.errors import ExportError
from models.exporting.onnx_model import INPUT, OUTPUTS, onnx_model
from models.exporting.source import Run, Source, Target, metadata
from models.images.decoder import Pixels
from models.options import Options


def _write_onnx(source: Source, options: Options, path: Path) -> None:
    path.write_bytes(onnx_model(source, options).SerializeToString())


def _run_onnx(source: Source, options: Options, path: Path) -> Run:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: _unpadded(*session.run(list(OUTPUTS), {INPUT: np.stack(images)}))


def _write_openvino(source: Source, options: Options, path: Path) -> None:
    from models.engines.openvino_import import ov

    model = ov.Core().read_model(onnx_model(source, options, suppress_equal=True).SerializeToString())
    for key, value in metadata(source, options).items():
        model.set_rt_info(value, ["model_info", key])
    try:
        ov.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # of the disk, too
        reason = str(error).strip().rpartition("\n")[2]  # the first lines name OpenVINO's source files
        raise ExportError(f"{path.name} cannot be written: {reason}") from error


def _run_openvino(source: Source, options: Options, path: Path) -> Run:
    """The IR on the CPU in fp32; OpenVINO uses bf16 by default on a CPU that supports it."""
    from models.engines.openvino_import import ov

    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: Sequence[Pixels]) -> list[Detections]:
        found = compiled(np.stack(images))
        return _unpadded(*(found[name] for name in OUTPUTS))

    return run


def _unpadded(
    boxes: npt.NDArray[Any], labels: npt.NDArray[Any], scores: npt.NDArray[Any]
) -> list[Detections]:
    """Each image's detections, without the rows of zeros after them."""
    counts = (scores > 0).sum(axis=1)
    return [
        Detections(boxes[k, :count], labels[k, :count].astype(np.int64), scores[k, :count])
        for k, count in enumerate(counts)
    ]


def _onnx_code(source: Source, options: Options, path: Path) -> str:
    return (
        f"session = onnxruntime.InferenceSession({str(path)!r})\n"
        f'boxes, labels, scores = session.run(None, {{"{INPUT}": pixels}})  # uint8 (N, H, W, 3), RGB'
    )


def _openvino_code(source: Source, options: Options, path: Path) -> str:
    return (
        f'model = openvino.compile_model({str(path)!r}, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})\n'
        'found = model(pixels)  # uint8 (N, H, W, 3), RGB; found["boxes"], found["labels"], found["scores"]'
    )


ONNX = Target(_write_onnx, _run_onnx, _onnx_code)
OPENVINO = Target(_write_openvino, _run_openvino, _openvino_code)
