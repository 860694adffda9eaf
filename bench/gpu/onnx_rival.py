"""The same model through ONNX Runtime: the file of `rcnn export --to onnx`, from pixels to detections.

Its thresholds are those of the card, in the file; the others here keep every score above 0.05.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.gpu.measuring import Run, is_cuda
from bench.gpu.variants import Variant
from bench.peers.model import LIMITS
from models.images.decoder import Image, decode
from models.shapes.scenes import draw_scene

# By kind of device: the name in the table, ONNX Runtime's provider, and its options.
PROVIDERS: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "cpu": [("ONNX Runtime", "CPUExecutionProvider", {})],
    "cuda": [
        ("ONNX Runtime, CUDA fp32", "CUDAExecutionProvider", {}),
        ("ONNX Runtime, TensorRT fp16", "TensorrtExecutionProvider", {"trt_fp16_enable": True}),
    ],
}


def onnx_rivals(model: str, device: str, folder: Path, jpegs: Sequence[bytes]) -> Iterator[Variant]:
    """A variant for each provider; one that cannot run says why when it is run."""
    batch = np.stack([decode(jpeg, LIMITS).pixels for jpeg in jpegs])
    for name, provider, options in PROVIDERS["cuda" if is_cuda(device) else "cpu"]:
        yield Variant(name, _Lazy(partial(_session, model, folder, (provider, options)), batch))


class _Lazy:
    """Makes its session in the first run, so that what is missing is an error of this variant alone."""

    def __init__(self, session: Run, batch: np.ndarray[Any, Any]) -> None:
        self._make, self._batch = session, batch
        self._session: Any = None

    def __call__(self) -> object:
        """One batch. Raises RuntimeError for what ONNX Runtime raises, whose errors have no common kind."""
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        try:
            self._session = self._session or self._make()
            return self._session.run(None, {"images": self._batch})
        except (state.Fail, state.RuntimeException, state.EPFail, state.NotImplemented) as error:
            raise RuntimeError(str(error)) from error


def _session(model: str, folder: Path, provider: tuple[str, dict[str, Any]]) -> Any:
    import onnxruntime

    if provider[0] not in onnxruntime.get_available_providers():
        raise RuntimeError(f"no {provider[0]}: install onnxruntime-gpu")
    return onnxruntime.InferenceSession(_exported(model, folder), providers=[provider])


def _exported(model: str, folder: Path) -> Path:
    """The model's ONNX file in the folder, written once."""
    from models.exporting.run import ExportSpec, export

    file = folder / f"{Path(model).stem}.onnx"
    if not file.exists():
        export(ExportSpec(model, "onnx", file, folder), Image(draw_scene(5, 0).pixels, "PNG"))
    return file
