"""The model of the settings, in this process."""

from typing import TYPE_CHECKING

from app.commands import CommandFailed
from app.serving.loading import load
from app.settings.settings import Settings

if TYPE_CHECKING:
    from models.detector import Detector


def load_detector(settings: Settings) -> "Detector":
    """The detector of the settings; raises CommandFailed with what to do."""
    try:
        return load(settings)
    except (ValueError, OSError) as error:  # a card, its weights, or the device; the text says what to do
        raise CommandFailed(error) from error
