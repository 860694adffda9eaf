"""What the service needs of a detector and its canvases. Those of `models` implement it, and import torch."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from models.detections import Detections
from models.images.decoder import Image
from models.precision.proof import PrecisionChoice
from models.zoo.cards import Card


class Canvas(Protocol):
    """A network input as the service sees it; sizes are (height, width) in pixels."""

    @property
    def key(self) -> tuple[int, int]: ...
    @property
    def content(self) -> tuple[int, int]: ...
    @property
    def nbytes(self) -> int: ...


class ModelSource(Protocol):
    """Where models come from, and the memory that they take; each method is slow and called on a thread."""

    def load(self, model: str) -> "Sequence[Detector]":
        """A detector for each device; `model`: a name, or the path of a card. Raises what says what to do."""

    def free(self) -> None:
        """Return the memory that an unloaded model left in pools."""

    def needed_bytes(self, card: Card) -> int:
        """Bytes that a model takes by the size of its weights; 0 where that is not known."""

    def used_bytes(self) -> int:
        """Bytes that this process holds where models are: of the first device, else of the process."""

    def free_bytes(self) -> int | None:
        """Bytes that this process could still take there; None where that is not known."""


class Detector(Protocol):
    """What the service needs of a detector; `models.detector.Detector` implements it."""

    @property
    def card(self) -> Card: ...
    @property
    def engine_name(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def precision_choice(self) -> PrecisionChoice: ...
    @property
    def fallback_reason(self) -> str | None: ...
    @property
    def hint(self) -> str | None: ...
    @property
    def version(self) -> str: ...
    @property
    def cuda_graphs(self) -> int: ...

    def prepare(self, image: Image, size: int | None) -> Canvas: ...

    @property
    def overlaps(self) -> bool: ...

    # The jobs are Any: their type names torch's canvas and cannot be imported here. So is what was launched.
    def launch(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> Any: ...
    def read(self, launched: Any) -> list[Detections]: ...

    def warm_up(self, cap: int) -> int: ...
    def memory_bytes(self) -> dict[str, int]: ...
