"""The model of the settings, in this process."""

from typing import TYPE_CHECKING

from app.commands import CommandFailed
from app.serving.loading import load
from app.settings.settings import Settings

if TYPE_CHECKING:
    from models.detector import Detector
    from models.zoo.download import Observe


def load_detector(settings: Settings, observe: "Observe | None" = None) -> "Detector":
    """The detector of the settings; `observe` is told of downloads. Raises CommandFailed with what to do."""
    try:
        return load(settings, observe)
    except (ValueError, OSError) as error:  # a card, its weights, or the device; the text says what to do
        raise CommandFailed(error) from error
