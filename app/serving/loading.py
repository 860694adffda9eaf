"""Loads the model that the settings name; imports torch only when called."""

from typing import TYPE_CHECKING

from app.settings.settings import Settings
from models.zoo.cards import Card

if TYPE_CHECKING:
    from models.detector import Detector, DetectorSpec
    from models.zoo.download import Observe

COPIES = 3  # of the weights during a load: of the file, of the network, and of the engine


def load(settings: Settings, observe: "Observe | None" = None) -> "Detector":
    """The detector of the first device, for work on one image after the other; `observe` sees downloads."""
    return _load(settings, settings.devices[:1], observe=observe)[0]


def load_all(settings: Settings, model: str | None = None) -> "list[Detector]":
    """Find the card, load its weights, put the network on each device; errors say what to do.

    `model` overrides the one of the settings: a name, or the path of a card.
    """
    return _load(settings, settings.devices, model)


def _load(
    settings: Settings,
    devices: tuple[str, ...],
    model: str | None = None,
    observe: "Observe | None" = None,
) -> "list[Detector]":
    from models.runtime import import_torchvision

    import_torchvision()
    from models.detector import load_detectors

    return load_detectors(spec_of(settings, model, observe), devices)


def spec_of(settings: Settings, model: str | None = None, observe: "Observe | None" = None) -> "DetectorSpec":
    """What the settings say of a model."""
    from models.detector import DetectorSpec
    from models.zoo.download import Downloads

    return DetectorSpec(
        model=model or settings.models[0],
        model_dir=settings.model_dir,
        cache_dir=settings.cache_dir,
        engine=settings.engine,
        device=settings.devices[0],
        precision=settings.precision,
        threads=settings.inference_threads,
        memory=settings.device_memory,
        downloads=Downloads(settings.weights_mirror, observe),
    )


class Source:
    """Models of the catalogue for the service: an app.serving.interfaces.ModelSource."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def load(self, model: str) -> "list[Detector]":
        """A detector for each device of the settings."""
        return load_all(self._settings, model)

    def free(self) -> None:
        """Return the memory that an unloaded model left in the pools of torch and the system."""
        from models.runtime import give_memory_back

        give_memory_back()

    def needed_bytes(self, card: Card) -> int:
        """What a load takes at most, by the size of the weights; 0 where that is not known."""
        from models.zoo.weights import weights_bytes

        return COPIES * weights_bytes(card, self._settings.cache_dir)

    def used_bytes(self) -> int:
        """Bytes that the first device, or on the CPU the process, holds now."""
        from models.runtime import used_bytes

        return used_bytes(self._settings.devices[0])

    def free_bytes(self) -> int | None:
        """Bytes that the first device, or on the CPU the process, could still take."""
        from models.runtime import free_bytes

        return free_bytes(self._settings.devices[0], self._settings.device_memory)
