"""The model that the settings name, loaded. torch comes with it, so its import waits for the call."""

from typing import TYPE_CHECKING

from app.settings import Settings

if TYPE_CHECKING:
    from models.detector import Detector


def load(settings: Settings, model: str | None = None) -> "Detector":
    """Find the card, load its weights, put the network on the device; errors say what to do.

    `model` takes the place of the settings': a name, or the path of a card.
    """
    from models.lean_import import import_torchvision

    import_torchvision()
    from models.detector import DetectorSpec, load_detector

    return load_detector(
        DetectorSpec(
            model=model or settings.model,
            model_dir=settings.model_dir,
            cache_dir=settings.cache_dir,
            device=settings.device,
            engine=settings.engine,
            precision=settings.precision,
            threads=settings.inference_threads,
        )
    )


def free() -> None:
    """Give back the memory that a model which has gone left in torch's and the system's pools."""
    from models.memory import give_memory_back

    give_memory_back()
