"""Loads the model that the settings name; imports torch only when called."""

from typing import TYPE_CHECKING

from app.settings.settings import Settings

if TYPE_CHECKING:
    from models.detector import Detector
    from models.zoo.download import Observe


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
    from models.detector import DetectorSpec, load_detectors
    from models.zoo.download import Downloads

    spec = DetectorSpec(
        model=model or settings.model,
        model_dir=settings.model_dir,
        cache_dir=settings.cache_dir,
        engine=settings.engine,
        precision=settings.precision,
        threads=settings.inference_threads,
        jpeg=settings.jpeg,
        memory=settings.device_memory,
        downloads=Downloads(settings.weights_mirror, observe),
    )
    return load_detectors(spec, devices)


def free() -> None:
    """Return the memory that an unloaded model left in the pools of torch and the system."""
    from models.runtime import give_memory_back

    give_memory_back()
