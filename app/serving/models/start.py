"""The models of RCNN_MODEL, at the start of the process."""

import logging

from app.serving.model import LoadedModel
from app.serving.models.registry import ModelRegistry
from app.settings.settings import Settings

logger = logging.getLogger(__name__)


async def load_named(models: ModelRegistry, settings: Settings) -> list[LoadedModel]:
    """The models of the settings; none where one of them cannot be loaded, which the log explains."""
    found: list[LoadedModel] = []
    for name in settings.models:
        loaded = await models.load(name, settings.max_batch)
        if isinstance(loaded, LoadedModel) and loaded.name in [model.name for model in found]:
            loaded = ValueError(f"RCNN_MODEL names two models {loaded.name!r}; give one another name")
        if isinstance(loaded, Exception):
            expected = isinstance(loaded, ValueError | OSError)  # of a card, weights or a device: no trace
            logger.error("the model cannot be loaded: %s", loaded, exc_info=None if expected else loaded)
            return []
        found.append(loaded)
    return found
