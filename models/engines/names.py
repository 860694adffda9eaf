"""What may be asked of engines: names of devices, engines and precisions, as in the settings."""

from dataclasses import dataclass, field
from pathlib import Path

from models.precision.proof import ON_CPU, Proof

AUTO = "auto"
ENGINES = ("torch", "openvino")
# The precisions of each engine on each kind of device, the default first.
PRECISIONS = {
    ("torch", "cpu"): ("fp32",),
    ("torch", "cuda"): ("fp16", "fp32", "bf16"),
    ("openvino", "cpu"): ON_CPU,
}


class EngineUnavailable(ValueError):
    """The chosen device, engine or precision does not exist on this machine; the text names what does."""


@dataclass(frozen=True)
class EngineChoice:
    """Names as in the settings: `auto` or a specific one; threads 0 means one per core.

    `cache_dir` caches converted networks for the next start; `quantized` is the int8 artefact; `memory` is
    the share of a GPU's memory that this process may use; `proof` is what `auto` may take as a precision, by
    the card, and `side` the short side of the card's canvases, px.
    """

    device: str = AUTO
    engine: str = AUTO
    precision: str = AUTO
    threads: int = 0
    cache_dir: Path | None = None
    quantized: Path | None = None
    memory: float = 1.0
    proof: Proof = field(default_factory=Proof)
    side: int = 320


def precisions_of(engine: str, device: str) -> tuple[str, ...]:
    """The precisions of an engine on a device such as cuda:0."""
    return PRECISIONS[engine, device.partition(":")[0]]
