"""OpenVINO engines of one network, in any precision."""

from functools import cached_property
from pathlib import Path

from torchvision.models.detection import FasterRCNN

from models.engines.conversion import read_parts
from models.engines.names import EngineChoice, EngineUnavailable
from models.engines.openvino_engine import OpenVINOEngine, has_bf16
from models.engines.part_cache import obtain_parts, part_folder

NO_BF16 = "this CPU has no bf16 arithmetic"


class PartsSource:
    """Builds engines on the converted network, or on its int8 artefact."""

    def __init__(self, network: FasterRCNN, choice: EngineChoice) -> None:
        self.network, self._choice = network, choice

    @cached_property
    def folder(self) -> Path | None:
        """Where the converted network is cached; its name is a hash of all weights."""
        cache_dir = self._choice.cache_dir
        return None if cache_dir is None else part_folder(self.network, cache_dir)

    def engine(self, precision: str) -> OpenVINOEngine:
        """An engine in that precision; raises EngineUnavailable."""
        if precision == "int8":
            return self._int8()
        if precision == "bf16" and not has_bf16():
            raise EngineUnavailable(f"{NO_BF16}; set RCNN_PRECISION to auto or fp32")
        folder, threads = self.folder, self._choice.threads
        return OpenVINOEngine(lambda: obtain_parts(self.network, folder), precision, threads, folder)

    def _int8(self) -> OpenVINOEngine:
        quantized = self._choice.quantized
        if quantized is None:
            raise EngineUnavailable(
                "precision 'int8' needs a quantized model; make one with "
                "`rcnn quantize --model NAME --images DIR`, or set RCNN_PRECISION to auto"
            )
        try:
            return OpenVINOEngine(read_parts(quantized), "int8", self._choice.threads)
        except RuntimeError as error:
            reason = str(error).strip().rpartition("\n")[2]  # OpenVINO's first lines name its source files
            raise EngineUnavailable(
                f"{quantized} is damaged; quantize the model again ({reason[:200]})"
            ) from error
