"""Imports OpenVINO without its telemetry, which it would otherwise send at import.

All other modules import OpenVINO from here, so that the telemetry is disabled first.
"""

import sys

# None makes the import of that package fail; OpenVINO and NNCF then use their own stubs.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is allowed, and means this

import openvino as ov  # noqa: E402  # after the line above
from openvino import opset9 as opset  # noqa: E402  # the same
from openvino._offline_transformations import apply_moc_transformations  # noqa: E402  # the same
from openvino.frontend import FrontEndManager  # noqa: E402  # the same
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # noqa: E402  # the same

__all__ = ["FrontEndManager", "TorchScriptPythonDecoder", "apply_moc_transformations", "opset", "ov"]
